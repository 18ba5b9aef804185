import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { RawImage, Tensor } from '@huggingface/transformers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ConfigError, InvalidArgumentError } from '../../src/errors.ts';
import type { UNet2DOptions } from '../../src/models/index.ts';
import { pipeline, type UnconditionalImageGenerationPipeline } from '../../src/pipelines/index.ts';
import { DDIMScheduler } from '../../src/schedulers/index.ts';
import { saveUNet } from './saved-unet.ts';

const scheduler = new DDIMScheduler({ num_train_timesteps: 1000 });
const quick = { scheduler, num_inference_steps: 2, output_type: 'tensor' } as const;
let root: string;
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

let saved = 0;
async function opened(changes: UNet2DOptions, options = {}): Promise<UnconditionalImageGenerationPipeline> {
  const folder = path.join(root, String(saved++));
  await saveUNet(folder, changes);
  return pipeline('unconditional-image-generation', folder, { device: 'cpu', ...options });
}

const grey = (value: number, side = 8) => new RawImage(new Uint8Array(side * side).fill(value), side, side, 1);
const data = (tensor: Tensor) => Array.from(tensor.data as Float32Array);

describe('a condition', () => {
  let generate: UnconditionalImageGenerationPipeline;
  beforeAll(async () => {
    generate = await opened({ in_channels: 2 });
  });
  afterAll(() => generate.dispose());

  it('is an input of the model', async () => {
    const sample = Float32Array.from({ length: 64 }, (_, i) => Math.sin(i));
    expect(generate.model.sampleShape).toEqual([1, 8, 8]);
    expect(generate.model.conditionShape).toEqual([1, 8, 8]);
    await expect(generate.model.predict(sample, 10)).rejects.toThrow(/takes a condition.*give 64 values/);
  });

  it('is one for all samples, or one for each, as images or as values', async () => {
    const both = await generate({ ...quick, batch_size: 2, condition: [grey(0), grey(255)] });
    const one = await generate({ ...quick, seed: [0], condition: grey(0) });
    expect(data(both).slice(0, 64)).toEqual(data(one));
    const same = await generate({ ...quick, batch_size: 2, condition: grey(255) });
    expect(data(same).slice(64)).toEqual(data(both).slice(64));
    expect(data(same).slice(0, 64)).not.toEqual(data(both).slice(0, 64));
    const values = new Float32Array(128).fill(1).fill(-1, 0, 64);
    const tensor = new Tensor('float32', values, [2, 1, 8, 8]);
    for (const condition of [values, tensor])
      expect(data(await generate({ ...quick, batch_size: 2, condition }))).toEqual(data(both));
    // The model's groups of 16 find the rows of theirs.
    const many = Array.from({ length: 18 }, (_, i) => grey(i === 17 ? 255 : 0));
    const last = data(await generate({ ...quick, batch_size: 18, condition: many })).slice(17 * 64);
    const seeded = data(await generate({ ...quick, seed: 0, batch_size: 18, condition: grey(255) })).slice(17 * 64);
    expect(last).toEqual(seeded);
  });

  it('is taken for folders, batches, edits, interpolation and inversion, and recorded', async () => {
    const condition = grey(90);
    const folder = path.join(root, 'images');
    const options = { scheduler, num_inference_steps: 2, condition };
    await generate.toFolder(folder, { ...options, count: 2 });
    const record = JSON.parse(await readFile(path.join(folder, 'generation.json'), 'utf8'));
    expect(record.condition_sha256).toMatch(/^[0-9a-f]{64}$/);
    await expect(generate.toFolder(folder, { ...options, condition: grey(91), count: 2 })).rejects.toThrow(
      /condition_sha256/,
    );
    for await (const { count } of generate.batches({ ...options, count: 2 })) expect(count).toBe(2);
    expect(await generate({ ...options, image: grey(10), strength: 0.5 })).toBeInstanceOf(RawImage);
    expect(await generate.interpolate(0, 1, 2, options)).toHaveLength(2);
    expect((await generate.invert(grey(10), { num_inference_steps: 2, condition })).dims).toEqual([1, 1, 8, 8]);
  });

  it.each<[unknown, RegExp]>([
    [undefined, /takes an image of 1 channels, 8x8 \(height x width\), beside the sample: give condition/],
    [grey(0, 16), /condition is 16x16, but the model takes 8x8/],
    [[grey(0), grey(0), grey(0)], /condition is a list of 3, but 2 images were asked for/],
    [new Float32Array(65), /condition has the shape \[65\]/],
    [Float32Array.from({ length: 64 }, (_, i) => (i === 5 ? Number.NaN : 0)), /condition must be finite/],
    [7, /condition/],
  ])('is refused where it is wrong', async (condition, message) => {
    const call = generate({ ...quick, batch_size: 2, condition: condition as never });
    await expect(call).rejects.toThrow(InvalidArgumentError);
    await expect(generate({ ...quick, batch_size: 2, condition: condition as never })).rejects.toThrow(message);
  });

  it('is refused by a model that takes none', async () => {
    const plain = await opened({});
    await expect(plain({ ...quick, condition: grey(0) })).rejects.toThrow(
      /condition needs a model that takes an image/,
    );
    await plain.dispose();
  });
});

describe('class labels that are numbers or vectors', () => {
  it('are taken as they are', async () => {
    const generate = await opened({ class_embed_type: 'timestep' });
    const two = data(await generate({ ...quick, batch_size: 2, class_labels: [0.5, 3] }));
    const one = data(await generate({ ...quick, class_labels: 0.5 }));
    expect(two.slice(0, 64)).toEqual(one);
    expect(data(await generate({ ...quick, class_labels: 0.25 }))).not.toEqual(one);
    await expect(generate(quick)).rejects.toThrow(/takes a number as a class label: give class_labels/);
    await expect(generate({ ...quick, class_labels: [[1]] })).rejects.toThrow(/has vectors/);
    await expect(generate({ ...quick, class_labels: 1, guidance_scale: 2 })).rejects.toThrow(/guidance_scale/);
    await generate.dispose();
  });

  it('of the length of the time embedding', async () => {
    const generate = await opened({ class_embed_type: 'identity', time_embedding_dim: 4 });
    const [a, b] = [
      [1, 0, 0, 0.5],
      [0, 2, 0, 0],
    ];
    const two = data(await generate({ ...quick, batch_size: 2, class_labels: [a, b] as number[][] }));
    const one = data(await generate({ ...quick, batch_size: 2, class_labels: b as number[] }));
    expect(two.slice(64)).toEqual(one.slice(64));
    expect(two.slice(0, 64)).not.toEqual(one.slice(0, 64));
    await expect(generate({ ...quick, batch_size: 2, class_labels: [1, 2] })).rejects.toThrow(/vector of 4 numbers/);
    await generate.dispose();
  });
});

describe('sample_size', () => {
  it('says how large the images of a model are whose config leaves it open', async () => {
    const folder = path.join(root, 'open');
    await saveUNet(folder);
    const config = path.join(folder, 'unet', 'config.json');
    await writeFile(config, JSON.stringify({ ...JSON.parse(await readFile(config, 'utf8')), sample_size: null }));
    const options = { device: 'cpu', sample_size: [16, 8] } as const;
    const generate = await pipeline('unconditional-image-generation', folder, options);
    expect((await generate(quick)).dims).toEqual([1, 1, 16, 8]);
    await generate.dispose();
    await expect(pipeline('unconditional-image-generation', folder, { device: 'cpu' })).rejects.toThrow(ConfigError);
    await expect(pipeline('unconditional-image-generation', folder, { device: 'cpu' })).rejects.toThrow(
      /sample_size is null.*give the option sample_size to pipeline\(\)/,
    );
    for (const [sample_size, failure] of [
      [7, ConfigError],
      [0, InvalidArgumentError],
    ] as const)
      await expect(pipeline('unconditional-image-generation', folder, { sample_size })).rejects.toThrow(failure);
  });
});
