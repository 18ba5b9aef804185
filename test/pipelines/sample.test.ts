import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { pipelineFiles } from '../../src/hub/pipeline-folder.ts';
import { onnxSource } from '../../src/models/onnx/file.ts';
import { DenoisingLoop } from '../../src/pipelines/fused/loop.ts';
import { ModelSession } from '../../src/pipelines/model-session.ts';
import { sample as sampleStepwise } from '../../src/pipelines/sample.ts';
import { readSamplingOptions, type SamplingOptions } from '../../src/pipelines/sampling-options.ts';
import { SampleStreams } from '../../src/random/sample-streams.ts';
import { DDIMScheduler, DDPMScheduler } from '../../src/schedulers/index.ts';
import { plainForward } from '../models/plain-conditional-dense.ts';
import { model, savePipeline, schedulerOptions, temporaryFolder, weights } from './saved-pipeline.ts';

let session: ModelSession;
let loop: DenoisingLoop | undefined;
beforeAll(async () => {
  const folder = await savePipeline(await temporaryFolder());
  const onnx = await onnxSource(path.join(folder, 'unet', pipelineFiles.onnx));
  session = await ModelSession.create(onnx, {}, [2], 'cpu');
  loop = await DenoisingLoop.of(onnx, session);
});
afterAll(async () => {
  await loop?.release();
  await session.release();
});

type Options = SamplingOptions & { batchSize?: number };
const defaults = { num_inference_steps: 100, batchSize: 7, seed: 5 };
const run = (options: Options) => {
  const { batchSize, ...sampling } = { ...defaults, ...options };
  return {
    ...readSamplingOptions(
      sampling,
      { scheduler: new DDPMScheduler(schedulerOptions), isotropy: undefined },
      batchSize,
      'point',
    ),
    batchSize,
  };
};
/** Step by step. */
const stepwise = async (options: Options = {}) => sampleStepwise(session, run(options));
/** Inside one graph; null where that is not possible. */
const looped = async (options: Options = {}) => (await loop?.tryRun(run(options))) ?? null;
/** As a pipeline chooses. */
const sample = async (options: Options = {}) => (await looped(options)) ?? (await stepwise(options));

describe('the loop gives the stepwise numbers', () => {
  const schedulers = {
    DDPM: new DDPMScheduler(schedulerOptions),
    'DDPM, large variance, clipped': new DDPMScheduler({
      ...schedulerOptions,
      variance_type: 'fixed_large',
      clip_sample: true,
    }),
    'DDPM, v-prediction': new DDPMScheduler({ ...schedulerOptions, prediction_type: 'v_prediction' }),
    'DDPM, x0-prediction': new DDPMScheduler({ ...schedulerOptions, prediction_type: 'sample' }),
    DDIM: new DDIMScheduler(schedulerOptions),
    'DDIM, linspace': new DDIMScheduler({ ...schedulerOptions, timestep_spacing: 'linspace' }),
    'DDIM, trailing': new DDIMScheduler({ ...schedulerOptions, timestep_spacing: 'trailing' }),
    'DDIM, no signal at the end': new DDIMScheduler({
      ...schedulerOptions,
      clip_sample: true,
      rescale_betas_zero_snr: true,
      timestep_spacing: 'trailing',
    }),
    'DDIM, clipped, v-prediction': new DDIMScheduler({
      ...schedulerOptions,
      clip_sample: true,
      prediction_type: 'v_prediction',
    }),
  };
  for (const [name, scheduler] of Object.entries(schedulers))
    for (const num_inference_steps of [100, 13])
      it(`${name}, ${num_inference_steps} steps`, async () => {
        for (const batchSize of [1, 2, 7, 64]) {
          const options = { scheduler, num_inference_steps, batchSize };
          const expected = await stepwise(options);
          expect(expected.every(Number.isFinite)).toBe(true);
          expect(await looped(options)).toEqual(expected);
        }
      });

  it('DDIM with eta', async () => {
    const options = { scheduler: new DDIMScheduler(schedulerOptions), num_inference_steps: 20, eta: 0.7 };
    const expected = await stepwise(options);
    expect(await looped(options)).toEqual(expected);
    expect(await looped({ ...options, eta: 0 })).not.toEqual(expected);
  });

  it('over the border of a block', async () => {
    const options = { batchSize: 2600, num_inference_steps: 5 };
    expect(await looped(options)).toEqual(await stepwise(options));
  });
});

it('follows Ho et al. 2020, algorithm 2', async () => {
  const { beta_end, num_train_timesteps: steps } = schedulerOptions;
  const beta = Array.from({ length: steps }, (_, t) => 1e-4 + ((beta_end - 1e-4) * t) / (steps - 1));
  const alphaBar = beta.map((_, t) => beta.slice(0, t + 1).reduce((product, b) => product * (1 - b), 1));
  const { config } = model;
  const network = {
    inFeatures: 2,
    hiddenFeatures: config.hidden_features,
    hiddenLayers: config.num_hidden_layers,
    timeEmbeddingDim: config.time_embedding_dim,
    weights,
  };
  const count = 5;
  const streams = new SampleStreams(defaults.seed, count, 2);
  let x = [...streams.fillNormal(new Float32Array(2 * count))];
  for (let t = steps - 1; t >= 0; t--) {
    const [b, bar, previous] = [beta[t] ?? 0, alphaBar[t] ?? 0, alphaBar[t - 1] ?? 1];
    const noise = plainForward(network, x, Array(count).fill(t));
    const z = t > 0 ? streams.fillNormal(new Float32Array(2 * count)) : new Float32Array(2 * count);
    const deviation = Math.sqrt(((1 - previous) / (1 - bar)) * b);
    x = x.map(
      (value, i) => (value - (b / Math.sqrt(1 - bar)) * (noise[i] ?? 0)) / Math.sqrt(1 - b) + deviation * (z[i] ?? 0),
    );
  }
  const samples = await sample({ batchSize: count });
  // Float32 against float64 over 100 steps that stretch early rounding errors; values are of the order of 10.
  const scale = Math.max(...x.map(Math.abs));
  x.forEach((value, i) => {
    expect(Math.abs((samples[i] ?? Number.NaN) - value)).toBeLessThan(1e-4 * scale);
  });
});

it('gives a sample that depends on seed and index alone', async () => {
  const many = await sample({ batchSize: 300 });
  expect(await sample({ batchSize: 1 })).toEqual(many.slice(0, 2));
  expect(await sample({ batchSize: 13 })).toEqual(many.slice(0, 26));
  expect(await sample({ batchSize: 300 })).toEqual(many);
  expect(await sample({ batchSize: 300, seed: 6 })).not.toEqual(many);
});

it('leaves the given scheduler as it was, so that runs can overlap', async () => {
  const scheduler = new DDIMScheduler(schedulerOptions);
  const alone = await sample({ scheduler, num_inference_steps: 10 });
  const [first, second] = await Promise.all([
    stepwise({ scheduler, num_inference_steps: 10 }),
    stepwise({ scheduler, num_inference_steps: 20 }),
  ]);
  expect(first).toEqual(alone);
  expect(second).not.toEqual(alone);
  expect(scheduler.timesteps).toHaveLength(100);
});

it('runs thresholding step by step', async () => {
  const scheduler = new DDPMScheduler({ ...schedulerOptions, thresholding: true });
  expect((await sample({ scheduler })).every(Number.isFinite)).toBe(true);
  expect(await looped({ scheduler })).toBeNull();
});

describe('callback_on_step_end', () => {
  it('sees every step and changes nothing by itself', async () => {
    const seen: number[][] = [];
    const result = await sample({
      num_inference_steps: 4,
      callback_on_step_end: (step, timestep, state) => void seen.push([step, timestep, state.sample.length]),
    });
    expect(seen).toEqual([75, 50, 25, 0].map((timestep, step) => [step, timestep, 14]));
    expect(result).toEqual(await sample({ num_inference_steps: 4 }));
  });

  it('may replace the sample', async () => {
    const last = new Float32Array(14).fill(0.25);
    const result = await sample({
      num_inference_steps: 4,
      callback_on_step_end: async (step) => (step === 3 ? { sample: last } : undefined),
    });
    expect(result).toEqual(last);
    const short = () => ({ sample: new Float32Array(3) });
    await expect(sample({ callback_on_step_end: short })).rejects.toThrow(InvalidArgumentError);
  });
});

describe('stopping', () => {
  it.each([
    ['loop', looped],
    ['stepwise', stepwise],
  ])('ends the %s path between steps with the reason', async (_name, draw) => {
    const controller = new AbortController();
    const seen: number[] = [];
    const run = draw({
      signal: controller.signal,
      on_progress: (fraction) => {
        seen.push(fraction);
        if (fraction > 0) controller.abort();
      },
    });
    await expect(run).rejects.toMatchObject({ name: 'AbortError' });
    expect(seen).toHaveLength(2);
  });

  it('does not begin when the signal has aborted already', async () => {
    const reason = new Error('enough');
    await expect(sample({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });

  it('lets timers run in between', async () => {
    const run = sample({ batchSize: 20_000, signal: AbortSignal.timeout(1) });
    await expect(run).rejects.toMatchObject({ name: 'TimeoutError' });
  });
});
