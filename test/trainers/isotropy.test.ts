import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadPoints } from '../../src/datasets/index.ts';
import { add, reduceMean, square, sub } from '../../src/graph/ops/index.ts';
import { defineLoss, hybridLoss, isoLoss, simpleLoss } from '../../src/losses/index.ts';
import { predictedNoiseIsotropy } from '../../src/metrics/index.ts';
import { ConditionalDense } from '../../src/models/index.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { DDPMScheduler, type PredictionType } from '../../src/schedulers/index.ts';
import { BatchStream } from '../../src/trainers/data/batch-stream.ts';
import { pointSamples } from '../../src/trainers/data/samples.ts';
import { Trainer } from '../../src/trainers/index.ts';
import { measureIsotropy, trainedLambda } from '../../src/trainers/isotropy.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'iso-measured-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const T = 50;
const points = await loadPoints('swiss-roll', { n: 500, seed: 1 });

async function trained(
  name: string,
  options: { prediction_type?: PredictionType; seed?: number; lambda?: number } = {},
) {
  const { prediction_type, seed = 1, lambda = 0.1 } = options;
  const trainer = new Trainer({
    model: new ConditionalDense({ hidden_features: 16, num_train_timesteps: T }),
    args: {
      output_dir: path.join(folder, name),
      max_steps: 40,
      per_device_train_batch_size: 64,
      learning_rate: 1e-2,
      use_ema: true,
      seed,
      device: 'cpu',
    },
    train_dataset: points,
    loss: isoLoss({ lambda }),
    noise_scheduler: new DDPMScheduler({ num_train_timesteps: T, clip_sample: false, prediction_type }),
  });
  await trainer.train();
  const target = path.join(folder, name, 'pipeline');
  await trainer.savePipeline(target);
  const read = async (file: string) => JSON.parse(await readFile(path.join(target, file, 'isotropy.json'), 'utf8'));
  return { target, raw: await read('unet'), averaged: await read('unet_ema') };
}

describe('measureIsotropy', () => {
  const batches = new BatchStream(pointSamples(points), { batchSize: 8, trainTimesteps: T, seed: 3 });

  it('spreads the timesteps evenly, and states the error of white noise', async () => {
    const counts = new Array<number>(T).fill(0);
    const normals = new RandomStream(5);
    const measured = await measureIsotropy(
      async ({ timestep }) => {
        for (const t of timestep) counts[t] = (counts[t] ?? 0) + 1;
        return Array.from(timestep, () => (normals.normal() ** 2 + normals.normal() ** 2) / 2);
      },
      batches,
      7,
    );
    const share = measured.samples / T;
    for (const count of counts) expect(Math.abs(count - share)).toBeLessThan(2);
    // The mean of two squared normals has the variance 1; the error is itself an estimate, good to about 1 %.
    expect(measured.standard_error * Math.sqrt(measured.samples)).toBeCloseTo(1, 1);
    expect(Math.abs(measured.isotropy - 1)).toBeLessThan(4 * measured.standard_error);
  });

  it('does not count what depends on the timestep alone as an error', async () => {
    const measured = await measureIsotropy(async ({ timestep }) => Array.from(timestep, (t) => t / T), batches, 7);
    expect(measured.isotropy).toBeCloseTo((T - 1) / 2 / T, 3);
    expect(measured.standard_error).toBeLessThan(1e-4);
  });
});

describe('the isotropy that a saved pipeline states', () => {
  it.each(['epsilon', 'v_prediction', 'sample'] as const)(
    'is the mean over all timesteps, measured in another way, for raw and averaged weights: %s',
    async (prediction_type) => {
      const { target, raw, averaged } = await trained(prediction_type, { prediction_type });
      expect(averaged.isotropy).not.toBe(raw.isotropy);
      for (const [ema, { isotropy, standard_error, samples, lambda }] of [
        [true, averaged],
        [false, raw],
      ] as const) {
        const { model, scheduler, dispose } = await pipeline('unconditional-point-generation', target, {
          device: 'cpu',
          ema,
        });
        const timesteps = Array.from({ length: T }, (_, t) => t);
        const { alphasCumprod } = scheduler;
        const rows = await predictedNoiseIsotropy({
          model,
          prediction_type,
          points,
          alphasCumprod,
          timesteps,
          seed: 9,
        });
        await dispose();
        const mean = rows.reduce((sum, { per_element }) => sum + per_element, 0) / T;
        // The reference has an error too, of T x 500 samples.
        const error = standard_error * Math.hypot(1, Math.sqrt(samples / (T * points.count)));
        expect(Math.abs(isotropy - mean)).toBeLessThan(4 * error);
        expect(standard_error).toBeLessThan(0.02 * isotropy);
        expect(lambda).toBe(0.1);
      }
    },
  );

  it('makes iso_lambda of the training change nothing, and another one change the samples', async () => {
    const { target } = await trained('lambda');
    const generate = await pipeline('unconditional-point-generation', target, { device: 'cpu' });
    const call = { batch_size: 20, num_inference_steps: 10 };
    expect(await generate({ ...call, iso_lambda: 0.1 })).toEqual(await generate(call));
    expect(await generate({ ...call, iso_lambda: 0 })).not.toEqual(await generate(call));
    await generate.dispose();
  });
});

it('lambda is known of the losses whose minimiser is', () => {
  expect(trainedLambda(simpleLoss().config)).toBe(0);
  expect(trainedLambda(isoLoss({ lambda: 0.2 }).config)).toBe(0.2);
  expect(trainedLambda(hybridLoss({ base: isoLoss({ lambda: 0.3 }) }).config)).toBe(0.3);
  expect(trainedLambda(hybridLoss().config)).toBe(0);
  const own = defineLoss({ name: 'own' }, ({ modelOutput, epsilon }) => {
    const loss = reduceMean(square(sub(modelOutput, epsilon)));
    return { loss: add(loss, loss), terms: {} };
  });
  expect(trainedLambda(own.config)).toBeNull();
  expect(trainedLambda(isoLoss({ lambda: 0.2, base: own }).config)).toBeNull();
});
