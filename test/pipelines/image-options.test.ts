import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { Graph, type Value } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { add, cast, div, gather, mul, reshape, sqrt, sub } from '../../src/graph/ops/index.ts';
import type { DType } from '../../src/graph/types.ts';
import type { UNet2DOptions } from '../../src/models/index.ts';
import { type ImageGenerationOptions, pipeline } from '../../src/pipelines/index.ts';
import { SampleStreams } from '../../src/random/sample-streams.ts';
import { DDIMScheduler, type DDPMOptions, DDPMScheduler } from '../../src/schedulers/index.ts';
import { saveUNet } from './saved-unet.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-options-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function opened(name: string, options: UNet2DOptions = {}, scheduler: DDPMOptions = {}) {
  const target = path.join(folder, name);
  await saveUNet(target, options, scheduler);
  return pipeline('unconditional-image-generation', target, { device: 'cpu' });
}

describe('image i is the same, bit for bit,', () => {
  const labels = Array.from({ length: 19 }, (_, i) => i % 4);
  it.each<[string, UNet2DOptions, ImageGenerationOptions]>([
    ['with DDPM', {}, {}],
    ['with DDIM', {}, { scheduler: new DDIMScheduler() }],
    ['with DDIM and eta', {}, { scheduler: new DDIMScheduler(), eta: 0.7 }],
    ['with classes', { num_class_embeds: 4 }, { class_labels: labels }],
    ['with guidance', { num_class_embeds: 4 }, { class_labels: labels, guidance_scale: 3 }],
    ['of a rectangular RGB model', { sample_size: [8, 12], in_channels: 3, out_channels: 3 }, {}],
  ])('in batches of 1, 5, 16 and 19, %s', async (name, model, options) => {
    const generate = await opened(`bits ${name}`, model);
    const draw = async (first: number, count: number, more: ImageGenerationOptions = {}) => {
      const seed = Array.from({ length: count }, (_, i) => 40 + first + i);
      const classes = options.class_labels && labels.slice(first, first + count);
      const { data } = await generate({
        ...options,
        ...more,
        ...(classes ? { class_labels: classes } : {}),
        seed,
        batch_size: count,
        num_inference_steps: 4,
        output_type: 'tensor',
      });
      return [...(data as Float32Array)];
    };
    const all = await draw(0, 19);
    const split = [...(await draw(0, 1)), ...(await draw(1, 2)), ...(await draw(3, 16))];
    expect(split).toEqual(all);
    // A callback makes all 19 go through the model at once.
    expect(await draw(0, 19, { callback_on_step_end: () => {} })).toEqual(all);
    expect(new Set(all).size).toBeGreaterThan(100);
    await generate.dispose();
  });
});

describe('sizes and channels', () => {
  it.each([
    [1, [8, 16]],
    [3, [12, 8]],
    [4, [8, 8]],
  ] as const)('draws images of %s channels and size %j', async (channels, sample_size) => {
    const generate = await opened(`size ${channels}`, {
      sample_size: [...sample_size],
      in_channels: channels,
      out_channels: channels,
    });
    const image = await generate({ num_inference_steps: 2 });
    expect(image).toMatchObject({ height: sample_size[0], width: sample_size[1], channels });
    const tensor = await generate({ batch_size: 2, num_inference_steps: 2, output_type: 'tensor' });
    expect(tensor.dims).toEqual([2, channels, ...sample_size]);
    await generate.dispose();
  });
});

describe('a learned variance', () => {
  const model = { in_channels: 3, out_channels: 6, num_class_embeds: 3 };

  it('is used by DDPM, and is left aside by schedulers with a fixed one', async () => {
    const generate = await opened('learned', model, { variance_type: 'learned_range' });
    const draw = async (options: ImageGenerationOptions) =>
      (await generate({ num_inference_steps: 3, class_labels: 0, output_type: 'uint8', ...options })).data;
    const learned = await draw({});
    const fixed = await draw({ scheduler: new DDPMScheduler() });
    expect(fixed).not.toEqual(learned);
    expect(await draw({ scheduler: new DDIMScheduler(), batch_size: 2 })).toHaveLength(2 * 3 * 64);
    await generate.dispose();
  });

  it('is not exaggerated by guidance: the class alone decides it', async () => {
    const generate = await opened('guided', model, { variance_type: 'learned_range' });
    const scale = 4;
    const { data } = await generate({
      class_labels: 1,
      guidance_scale: scale,
      num_inference_steps: 3,
      seed: 8,
      output_type: 'tensor',
    });

    const scheduler = new DDPMScheduler({ variance_type: 'learned_range' });
    scheduler.setTimesteps(3);
    const size = 3 * 64;
    const streams = new SampleStreams(8, 1, size);
    let sample: Float32Array = streams.fillNormal(new Float32Array(size));
    for (const timestep of scheduler.timesteps) {
      const given = await generate.model.predict(sample, timestep, [1]);
      const none = await generate.model.predict(sample, timestep, [2]);
      const output = given.map((c, i) => (i < size ? (none[i] as number) + scale * (c - (none[i] as number)) : c));
      const noise = new Float32Array(size);
      if (timestep > 0) streams.fillNormal(noise);
      sample = scheduler.step(output, timestep, sample, { noise, sample_shape: [1, 3, 8, 8] }).prev_sample;
    }
    const expected = sample.map((x) => Math.min(Math.max((x + 1) / 2, 0), 1));
    expect([...(data as Float32Array)]).toEqual([...expected]);
    expect(new Set(expected).size).toBeGreaterThan(20);
    await generate.dispose();
  });
});

describe('an ONNX file that knows the answer', () => {
  const { alphasCumprod } = new DDPMScheduler();
  const CLEAN = 0.4;

  /** Predicts noise, velocity or x_0 as if every image were 0.4 everywhere. */
  async function oracle(prediction: string, dtype: DType, shape: readonly (number | string)[]): Promise<string> {
    const graph = new Graph('oracle');
    const sample = graph.input('sample', 'float32', ['batch', 3, 4, 6]);
    const timestep = graph.input('timestep', dtype, shape);
    const constant = (value: number) => graph.constant('float32', [], Float32Array.of(value));
    const table = graph.constant('float32', [1000], alphasCumprod.slice());
    const alphaBar = reshape(gather(table, cast(timestep, 'int64')), [1, 1, 1, 1]);
    const noiseScale = sqrt(sub(constant(1), alphaBar));
    const noise = div(sub(sample, mul(sqrt(alphaBar), constant(CLEAN))), noiseScale);
    const outputs: Record<string, () => Value> = {
      epsilon: () => noise,
      v_prediction: () => sub(mul(sqrt(alphaBar), noise), mul(noiseScale, constant(CLEAN))),
      sample: () => add(mul(sample, constant(0)), constant(CLEAN)),
    };
    graph.output('out', outputs[prediction]?.() ?? noise);
    const file = path.join(folder, `oracle-${prediction}-${dtype}-${shape.length}.onnx`);
    await writeFile(file, writeOnnx(graph));
    return file;
  }

  it.each([
    ['epsilon', 'int64', [1]],
    ['epsilon', 'float32', []],
    ['v_prediction', 'float64', [1]],
    ['v_prediction', 'int32', []],
    ['sample', 'int64', []],
  ] as const)('gives its image: %s, timesteps %s %j, DDPM and DDIM', async (prediction_type, dtype, shape) => {
    const generate = await pipeline('unconditional-image-generation', await oracle(prediction_type, dtype, shape), {
      device: 'cpu',
      scheduler: new DDPMScheduler({ prediction_type }),
    });
    for (const options of [
      {},
      { scheduler: new DDIMScheduler({ prediction_type }) },
      { scheduler: new DDIMScheduler({ prediction_type }), eta: 1 },
    ]) {
      const { data, dims } = await generate({
        ...options,
        batch_size: 2,
        num_inference_steps: 20,
        output_type: 'tensor',
      });
      expect(dims).toEqual([2, 3, 4, 6]);
      // Leading timesteps end at t = 0, where what is left of the noise is amplified by float32 rounding only.
      for (const value of data as Float32Array) expect(value).toBeCloseTo((CLEAN + 1) / 2, 3);
    }
    await generate.dispose();
  });
});

it('lets a callback see and replace the sample after each step, and an AbortSignal stop between steps', async () => {
  const generate = await opened('callback');
  const steps: [number, number][] = [];
  const zeros = await generate({
    batch_size: 2,
    num_inference_steps: 5,
    output_type: 'tensor',
    callback_on_step_end: (step, timestep, { sample }) => {
      steps.push([step, timestep]);
      return { sample: new Float32Array(sample.length) };
    },
  });
  expect(steps).toEqual([800, 600, 400, 200, 0].map((timestep, step) => [step, timestep]));
  expect([...(zeros.data as Float32Array)].every((value) => value === 0.5)).toBe(true);

  const controller = new AbortController();
  let seen = 0;
  const stopped = generate({
    num_inference_steps: 5,
    signal: controller.signal,
    callback_on_step_end: () => {
      if (++seen === 2) controller.abort();
    },
  });
  await expect(stopped).rejects.toMatchObject({ name: 'AbortError' });
  expect(seen).toBe(2);
  await generate.dispose();
});

it('refuses options that do not fit before anything is drawn', async () => {
  const generate = await opened('refusals', { num_class_embeds: 3 });
  let progressed = false;
  const on_progress = () => {
    progressed = true;
  };
  const options = { class_labels: 0, num_inference_steps: 2, on_progress };
  for (const wrong of [
    { class_labels: [0, 1], batch_size: 3 },
    { class_labels: [0, 7], batch_size: 2 },
    { class_labels: -1 },
    { class_labels: 0.5 },
    { guidance_scale: Number.NaN },
    { eta: -0.1 },
    { batch_size: 2.5 },
    { output_type: 'jpeg' as 'image' },
  ])
    await expect(generate({ ...options, ...wrong })).rejects.toThrow(InvalidArgumentError);
  expect(progressed).toBe(false);
  await generate.dispose();
});
