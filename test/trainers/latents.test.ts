import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AutoencoderSession } from '../../src/autoencoders/session.ts';
import { fillSample } from '../../src/datasets/images/augment.ts';
import { InvalidArgumentError } from '../../src/errors.ts';
import { isoLoss } from '../../src/losses/index.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { DDPMScheduler } from '../../src/schedulers/index.ts';
import { LatentSamples, type LatentSetOptions } from '../../src/trainers/data/latents.ts';
import { Trainer } from '../../src/trainers/index.ts';
import type { TrainerOptions } from '../../src/trainers/trainer-options.ts';
import { openTiny, tinyVq } from '../autoencoders/saved-autoencoder.ts';
import { tinyUNet } from '../models/tiny-unet.ts';
import { stripes } from './stripes.ts';

let folder: string;
let kl: AutoencoderSession;
let vq: AutoencoderSession;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-'));
  kl = await openTiny();
  vq = await openTiny(tinyVq());
});
afterAll(async () => {
  await kl.dispose();
  await vq.dispose();
  await rm(folder, { recursive: true, force: true });
});

const unet = () => tinyUNet({ sample_size: 4, in_channels: 2, out_channels: 2 });

function latentTrainer(name: string, changes: Partial<TrainerOptions> = {}, args = {}): Trainer {
  return new Trainer({
    model: unet(),
    args: {
      output_dir: path.join(folder, name),
      max_steps: 2,
      per_device_train_batch_size: 4,
      random_flip: true,
      device: 'cpu',
      ...args,
    },
    train_dataset: stripes(),
    autoencoder: kl,
    loss: isoLoss({ lambda: 0.1 }),
    noise_scheduler: new DDPMScheduler({ clip_sample: false }),
    ...changes,
    latents: { cache_dir: path.join(folder, `${name}-cache`), ...changes.latents },
  });
}

/** The latents of `stripes`, encoded by `kl`. */
function latentSamples(name: string, options: LatentSetOptions = {}, settings = { random_flip: true, seed: 0 }) {
  return new LatentSamples(stripes(), kl, { cache_dir: path.join(folder, `${name}-cache`), ...options }, settings);
}

/** Sample `index` with the random decisions of a stream. */
function filledWith(samples: LatentSamples, index: number, stream: number): Float32Array {
  const target = new Float32Array(SIZE);
  samples.fill(index, target, new RandomStream(0, stream));
  return target;
}

/** The latents that the runs of `latentTrainer(name)` are trained on, by row of the file. */
function storedLatents(name: string): Float32Array[] {
  const cache = path.join(folder, `${name}-cache`, 'latents');
  const [file = '', ...others] = readdirSync(cache);
  expect(others).toEqual([]);
  const bytes = readFileSync(path.join(cache, file));
  const values = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length - 8));
  return Array.from({ length: values.length / SIZE }, (_, row) => values.slice(row * SIZE, (row + 1) * SIZE));
}
const SIZE = 2 * 4 * 4;

/** Image `index` of the set in [-1, 1]. */
function imageOf(index: number, flip = false): Float32Array {
  const image = new Float32Array(64);
  fillSample(image, 0, stripes().pixels(index), { channels: 1, height: 8, width: 8 }, { flip });
  return image;
}

const deviation = (values: readonly number[]) => {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
};

describe('Trainer with an autoencoder', () => {
  it('encodes both orientations once, and scales them to the standard deviation 1', async () => {
    const done: number[] = [];
    const options = {
      posterior: 'mean',
      on_progress: (progress: { done: number }) => void done.push(progress.done),
    } as const;
    const samples = latentSamples('mean', options);
    await samples.open();
    expect(done.at(-1)).toBe(32);
    const latents = storedLatents('mean');
    expect(latents).toHaveLength(32);
    const factor = samples.scaling.factor;
    expect(factor * deviation(latents.flatMap((row) => [...row]))).toBeCloseTo(1, 4);
    const filled = { plain: 0, mirrored: 0 };
    for (let i = 0; i < 20; i++) {
      const flip = new RandomStream(0, i).uniform() < 0.5;
      filled[flip ? 'mirrored' : 'plain']++;
      const expected = await kl.encode({ data: imageOf(3, flip), shape: [1, 1, 8, 8] });
      filledWith(samples, 3, i).forEach((value, at) => {
        expect(value).toBeCloseTo(factor * (expected.data[at] ?? Number.NaN), 4);
      });
    }
    expect(Math.min(filled.plain, filled.mirrored)).toBeGreaterThan(0);
    // A second set of the same images finds the file.
    done.length = 0;
    await latentSamples('mean', options).open();
    expect(done).toEqual([]);
  });

  it("draws one latent of each image from the encoder's distribution, by the seed", async () => {
    const drawn = async (name: string, seed: number, posterior: 'sample' | 'mean' = 'sample') => {
      await latentSamples(name, { posterior }, { seed, random_flip: false }).open();
      return storedLatents(name);
    };
    const [first, second, means] = [
      await drawn('seed-0', 0),
      await drawn('seed-1', 1),
      await drawn('means', 0, 'mean'),
    ];
    expect(first).not.toEqual(second);
    const standardised: number[] = [];
    for (const [row, latents] of [...first, ...second].entries()) {
      const { logvar } = await kl.moments({ data: imageOf(row % 16), shape: [1, 1, 8, 8] });
      latents.forEach((value, i) => {
        standardised.push((value - (means[row % 16]?.[i] ?? 0)) / Math.exp((logvar.data[i] ?? 0) / 2));
      });
    }
    // 1,024 standard normals: 5 standard errors of mean and deviation.
    expect(standardised).toHaveLength(1024);
    expect(Math.abs(standardised.reduce((sum, value) => sum + value, 0) / 1024)).toBeLessThan(5 / 32);
    expect(Math.abs(deviation(standardised) - 1)).toBeLessThan(5 / Math.sqrt(2 * 1024));
  });

  it('gives the same bits from a file that is read sample by sample, and writes a damaged one anew', async () => {
    const bitsOf = async (options = {}) => {
      const samples = latentSamples('bits', options);
      await samples.open();
      return Array.from({ length: 16 }, (_, i) => filledWith(samples, i, i));
    };
    const expected = await bitsOf();
    expect(await bitsOf({ max_memory_bytes: 0 })).toEqual(expected);
    const cache = path.join(folder, 'bits-cache/latents');
    const file = path.join(cache, readdirSync(cache)[0] ?? '');
    const bytes = readFileSync(file);
    for (const damaged of [bytes.subarray(4), Buffer.concat([bytes.subarray(0, -1), Buffer.from('x')])]) {
      writeFileSync(file, damaged);
      expect(await bitsOf()).toEqual(expected);
      expect(readFileSync(file)).toEqual(bytes);
    }
  });

  it('stops when the signal aborts, and leaves no file', async () => {
    const abort = new AbortController();
    const samples = latentSamples('stopped', { on_progress: () => abort.abort(new Error('enough')) });
    await expect(samples.open(abort.signal)).rejects.toThrow('enough');
    expect(readdirSync(path.join(folder, 'stopped-cache/latents'))).toEqual([]);
    await samples.open();
    expect(storedLatents('stopped')).toHaveLength(32);
  });

  it('refuses to resume with other latents', async () => {
    const args = { output_dir: path.join(folder, 'resumed'), max_steps: 2 };
    const resume = { resume_from_checkpoint: 'latest' };
    await latentTrainer('resumed', {}, args).train();
    const longer = { ...args, max_steps: 4 };
    await expect(latentTrainer('resumed', { autoencoder: vq }, longer).train(resume)).rejects.toThrow(
      /autoencoder\.sha256 is .* there and .* here/,
    );
    await expect(latentTrainer('resumed', { latents: { scaling_factor: 0.5 } }, longer).train(resume)).rejects.toThrow(
      /autoencoder\.scaling_factor is 0\.\d+ there and 0\.5 here/,
    );
    await expect(latentTrainer('resumed', { latents: { posterior: 'mean' } }, longer).train(resume)).rejects.toThrow(
      /autoencoder\.posterior is "sample" there and "mean" here/,
    );
    expect((await latentTrainer('resumed', {}, longer).train(resume)).global_step).toBe(4);
  });

  it.each<[string, () => Promise<unknown> | unknown, RegExp]>([
    [
      'a U-Net of other channels',
      () => latentTrainer('x', { model: tinyUNet({ sample_size: 4 }) }),
      /latents of stripes.*\[2, 4, 4\].*takes \[1, 4, 4\]/,
    ],
    [
      'a U-Net of another size',
      () => latentTrainer('x', { model: tinyUNet({ in_channels: 2, out_channels: 2 }) }),
      /\[2, 4, 4\].*takes \[2, 8, 8\]/,
    ],
    ...[0, Number.NaN, -1, Number.POSITIVE_INFINITY].map((scaling_factor): [string, () => unknown, RegExp] => [
      `the scaling factor ${scaling_factor}`,
      () => latentTrainer('x', { latents: { scaling_factor } }),
      new RegExp(`is ${scaling_factor}, but must be a finite number above 0`),
    ]),
    [
      'images that cannot be halved',
      () => latentTrainer('x', { train_dataset: { ...stripes(), height: 7 } }),
      /7x8 pixels do not fit/,
    ],
    [
      'colour images',
      () => latentTrainer('x', { train_dataset: { ...stripes(), channels: 3 } }),
      /have 3 channels, but the AutoencoderKL encodes images of 1/,
    ],
    [
      'random crops',
      () =>
        latentTrainer('x', {
          train_dataset: { ...stripes(), uncropped: (i) => ({ pixels: stripes().pixels(i), height: 8, width: 8 }) },
        }),
      /cropped at random, but latents are encoded once/,
    ],
    [
      'a scheduler that clips',
      () => latentTrainer('x', { noise_scheduler: new DDPMScheduler() }),
      /clips samples to \[-1, 1\] \(clip_sample\)/,
    ],
    [
      'a distribution of a VQModel',
      () => latentTrainer('x', { autoencoder: vq, latents: { posterior: 'mean' } }),
      /posterior is 'mean', but a VQModel/,
    ],
    [
      'latents without an autoencoder',
      () => latentTrainer('x', { autoencoder: undefined }),
      /option latents is for latent diffusion/,
    ],
  ])('refuses %s before any work', async (_, make, message) => {
    expect(make).toThrow(message);
    expect(make).toThrow(InvalidArgumentError);
    expect(readdirSync(folder)).not.toContain('x');
  });

  it('trains on the latents of a VQModel before they are quantised', async () => {
    const trainer = latentTrainer('vq', { autoencoder: vq }, { random_flip: false });
    await trainer.train();
    const expected = await vq.encode({ data: imageOf(5), shape: [1, 1, 8, 8] });
    storedLatents('vq')[5]?.forEach((value, i) => void expect(value).toBeCloseTo(expected.data[i] ?? Number.NaN, 5));
    await trainer.savePipeline(path.join(folder, 'vq-pipeline'));
    const index = JSON.parse(readFileSync(path.join(folder, 'vq-pipeline/model_index.json'), 'utf8'));
    expect(index).toMatchObject({
      _class_name: 'LDMPipeline',
      vqvae: ['diffusers', 'VQModel'],
      unet: ['diffusers', 'UNet2DModel'],
      scheduler: ['diffusers', 'DDPMScheduler'],
    });
  });
});
