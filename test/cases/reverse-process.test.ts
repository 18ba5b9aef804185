// Numbers of the reverse process that were wrong or not finite in use.
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { InvalidArgumentError, NonFiniteSampleError } from '../../src/errors.ts';
import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { cast, div, mul } from '../../src/graph/ops/index.ts';
import { savePipelineFolder } from '../../src/hub/pipeline-folder.ts';
import { evaluate, imagesFromArray } from '../../src/index.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import {
  DDIMScheduler,
  DDPMScheduler,
  Scheduler,
  type SchedulerOptions,
  type StepOutput,
} from '../../src/schedulers/index.ts';
import { temporaryFolder } from '../pipelines/saved-pipeline.ts';

const folder = await temporaryFolder();

/** The exact noise of a data set of one point, x0 = 0.5: x_t = sqrt(abar) x0 + sqrt(1 - abar) 1.3. */
const [x0, epsilon] = [0.5, 1.3];
const mixture = (alphaBar: number) => Math.sqrt(alphaBar) * x0 + Math.sqrt(1 - alphaBar) * epsilon;
const abarAfter = ({ alphasCumprod, timesteps }: Scheduler, i: number) => alphasCumprod[timesteps[i + 1] ?? -1] ?? 1;

const spacings = ['leading', 'trailing', 'linspace'] as const;
const counts = [1, 2, 7, 10, 50, 333, 400, 600, 999, 1000];

describe.each(spacings)('with %s timesteps', (timestep_spacing) => {
  it.each(counts)('DDIM steps to the next of %i timesteps and ends at the data', (count) => {
    const scheduler = new DDIMScheduler({ timestep_spacing, clip_sample: false });
    scheduler.setTimesteps(count);
    let x = mixture(scheduler.alphasCumprod[scheduler.timesteps[0] ?? 0] ?? 0);
    scheduler.timesteps.forEach((timestep, i) => {
      const next = mixture(abarAfter(scheduler, i));
      const given = Float32Array.of(mixture(scheduler.alphasCumprod[timestep] ?? 0));
      const { prev_sample } = scheduler.step(Float32Array.of(epsilon), timestep, given);
      // 1 / sqrt(abar) is 157 at t = 999, and magnifies the float32 rounding of the sample, 6e-8, as often.
      expect(prev_sample[0]).toBeCloseTo(next, 4);
      const step = scheduler.stepCoefficients(timestep);
      if (!step) throw new Error('a step of DDIM has coefficients');
      const original = x * step.originalFromSample + epsilon * step.originalFromOutput;
      x = original * step.fromOriginal + x * step.fromSample + epsilon * step.fromOutput;
    });
    // Float32 coefficients, 1e-7 off, of up to 1000 steps.
    expect(x).toBeCloseTo(x0, 3);
  });

  it.each(counts)("DDPM's mean is the posterior of the next of %i timesteps", (count) => {
    const scheduler = new DDPMScheduler({ timestep_spacing, clip_sample: false });
    scheduler.setTimesteps(count);
    scheduler.timesteps.forEach((timestep, i) => {
      const [bar, next] = [scheduler.alphasCumprod[timestep] ?? 0, abarAfter(scheduler, i)];
      const beta = 1 - bar / next;
      // Ho et al. 2020, eq. 7
      const mean =
        ((Math.sqrt(next) * beta) / (1 - bar)) * x0 + ((Math.sqrt(bar / next) * (1 - next)) / (1 - bar)) * mixture(bar);
      const { prev_sample } = scheduler.step(Float32Array.of(epsilon), timestep, Float32Array.of(mixture(bar)), {
        noise: Float32Array.of(0),
      });
      expect(prev_sample[0]).toBeCloseTo(mean, 4);
    });
  });
});

it.each([DDIMScheduler, DDPMScheduler])('refuses a timestep that is not among those of the process: %o', (Class) => {
  const scheduler = new Class();
  scheduler.setTimesteps(10);
  expect(() => scheduler.step(Float32Array.of(0), 899, Float32Array.of(0))).toThrow(/timestep 899 is not among/);
});

describe('steps_offset', () => {
  it.each([DDIMScheduler, DDPMScheduler])('that leads beyond T is refused by name: %o', (Class) => {
    for (const [steps_offset, count] of [
      [1, 1000],
      [1000, 50],
      [20, 50],
    ] as const)
      expect(() => new Class({ steps_offset }).setTimesteps(count)).toThrow(
        new RegExp(`steps_offset ${steps_offset} moves the first of ${count} timesteps.*num_inference_steps`),
      );
    const scheduler = new Class({ steps_offset: 1 });
    scheduler.setTimesteps(50);
    expect(scheduler.timesteps[0]).toBe(981);
    scheduler.setTimesteps(999);
    expect(scheduler.timesteps[0]).toBe(999);
  });
});

it('every beta schedule, T from 1 to 1000, ends finite; 53 steps are 53; more than T are refused', () => {
  for (const beta_schedule of ['linear', 'scaled_linear', 'squaredcos_cap_v2', 'sigmoid'] as const)
    for (const num_train_timesteps of [1, 2, 4, 10, 100, 1000])
      for (const variance_type of ['fixed_small', 'fixed_large', 'fixed_small_log', 'fixed_large_log'] as const) {
        const options = { beta_schedule, num_train_timesteps };
        for (const scheduler of [new DDPMScheduler({ ...options, variance_type }), new DDIMScheduler(options)]) {
          scheduler.setTimesteps(num_train_timesteps);
          expect(lastOf(scheduler, { eta: 1 })).toSatisfy(Number.isFinite);
        }
      }
  const scheduler = new DDPMScheduler();
  scheduler.setTimesteps(53);
  expect(scheduler.timesteps).toHaveLength(53);
  expect(() => scheduler.setTimesteps(1001)).toThrow(InvalidArgumentError);
});

/** The end of a whole process for one value. */
function lastOf(scheduler: Scheduler, more: { eta?: number; use_clipped_model_output?: boolean } = {}): number {
  let sample: Float32Array = Float32Array.of(0.7);
  for (const timestep of scheduler.timesteps)
    sample = scheduler.step(Float32Array.of(0.1), timestep, sample, {
      noise: Float32Array.of(0.3),
      sample_shape: [1, 1],
      ...more,
    }).prev_sample;
  return sample[0] ?? Number.NaN;
}

describe('without signal at the end, or without noise at the start,', () => {
  const ends: [string, SchedulerOptions][] = [
    ['rescale_betas_zero_snr', { rescale_betas_zero_snr: true }],
    ['beta_start 0', { beta_start: 0 }],
    ['betas that leave nothing in float32', { beta_end: 0.99 }],
    ['trained_betas of 0 and 1', { num_train_timesteps: 4, trained_betas: [0, 0, 0.5, 1] }],
  ];
  const clippings = [{ clip_sample: true }, { clip_sample: false, thresholding: true }, { clip_sample: false }];
  it.each(ends)('%s: every process is finite, or an error before it begins', (_name, options) => {
    for (const timestep_spacing of spacings)
      for (const prediction_type of ['epsilon', 'v_prediction', 'sample'] as const)
        for (const clipping of clippings)
          for (const count of [2, 3, 4]) {
            const config = { ...options, ...clipping, timestep_spacing, prediction_type };
            for (const scheduler of [
              new DDIMScheduler(config),
              new DDIMScheduler({ ...config, set_alpha_to_one: false }),
              new DDPMScheduler(config),
              new DDPMScheduler({ ...config, variance_type: 'fixed_large' }),
            ]) {
              // T itself, where it is small enough to have every timestep.
              const steps = options.trained_betas ? count : count * 25;
              const begin = () => scheduler.setTimesteps(steps);
              const ask = new (scheduler.constructor as typeof DDIMScheduler)(config);
              const noSignal = spacedWithoutSignal(ask, steps);
              if (prediction_type === 'epsilon' && clipping === clippings[2] && noSignal) {
                expect(begin).toThrow(/no signal is left.*prediction_type.*clip_sample/);
                continue;
              }
              begin();
              for (const eta of [0, 0.5, 1])
                for (const use_clipped_model_output of [false, true])
                  expect(lastOf(scheduler, { eta, use_clipped_model_output })).toSatisfy(Number.isFinite);
            }
          }
  });

  /** Whether the timesteps of a v-prediction, which are the same, reach one without signal. */
  function spacedWithoutSignal({ config }: Scheduler, steps: number): boolean {
    const scheduler = new DDPMScheduler({ ...config, prediction_type: 'v_prediction' });
    scheduler.setTimesteps(steps);
    return scheduler.timesteps.some((timestep) => scheduler.alphasCumprod[timestep] === 0);
  }

  it('predicted noise gives the clipping limit, as infinity does in diffusers', () => {
    // torch.clamp((sample - output) / 0, -1, 1) of diffusers' DDIMScheduler.step
    const options = { rescale_betas_zero_snr: true, timestep_spacing: 'trailing' } as const;
    for (const scheduler of [new DDIMScheduler(options), new DDPMScheduler(options)]) {
      scheduler.setTimesteps(10);
      const sample = Float32Array.of(0.7, -0.2, 3e-5);
      const output = Float32Array.of(0.1, 0.4, 2.9e-5);
      const { pred_original_sample } = scheduler.step(output, 999, sample, { noise: new Float32Array(3) });
      expect(pred_original_sample).toEqual(Float32Array.of(1, -1, 1));
    }
  });

  it('a direct step says so too', () => {
    const scheduler = new DDIMScheduler({ rescale_betas_zero_snr: true, clip_sample: false });
    expect(() => scheduler.step(Float32Array.of(0), 999, Float32Array.of(1))).toThrow(InvalidArgumentError);
  });
});

/** A model that divides by the timestep: infinite, or NaN for 0 / 0, at timestep 0, and the sample times 0.1 elsewhere. */
function divides(shape: readonly number[]): Uint8Array {
  const graph = new Graph('divides');
  const sample = graph.input('sample', 'float32', ['batch', ...shape]);
  const timestep = cast(graph.input('timestep', 'int64', [1]), 'float32');
  graph.output(
    'out_sample',
    mul(sample, div(timestep, mul(timestep, graph.constant('float32', [], Float32Array.of(10))))),
  );
  return writeOnnx(graph);
}

class Overflows extends Scheduler {
  readonly className = 'Overflows';
  step(_output: Float32Array, timestep: number, sample: Float32Array): StepOutput {
    return { prev_sample: sample.map((x) => (timestep < 500 ? x * 1e38 * 1e38 : x)) };
  }
}
class Scales extends Scheduler {
  readonly className = 'Scales';
  override scaleModelInput(sample: Float32Array) {
    return sample.map((x) => x / 0);
  }
  step(_output: Float32Array, _timestep: number, sample: Float32Array): StepOutput {
    return { prev_sample: sample };
  }
}

describe('NaN that leaves a model or a scheduler is an error with its step,', () => {
  const last = { name: 'NonFiniteSampleError', step: 5, message: /^the model gave NaN in step 5 of 5 \(timestep 0\)/ };
  const options = { num_inference_steps: 5, seed: 1 };

  it('of points, in one graph and step by step', async () => {
    const target = path.join(folder, 'points');
    const model = divides([2]);
    await savePipelineFolder(target, {
      modelIndex: { _class_name: 'DDPMPipeline', scheduler: ['diffusers', 'DDPMScheduler'], unet: ['my', 'Divides'] },
      unetConfig: { _class_name: 'Divides', sample_shape: [2] },
      unet: { onnx: model, weights: new Map() },
      schedulerConfig: new DDPMScheduler().toConfig(),
      extraFiles: { 'point_scaler.json': '{"kind":"none","offset":[0,0],"scale":[1,1]}' },
    });
    const generate = await pipeline('unconditional-point-generation', target, { device: 'cpu' });
    const ddim = new DDIMScheduler({ clip_sample: false });
    for (const scheduler of [undefined, ddim, 'DDIMScheduler'])
      for (const batch_size of [1, 3000])
        for (const callback_on_step_end of [undefined, () => {}])
          await expect(generate({ ...options, scheduler, batch_size, callback_on_step_end })).rejects.toMatchObject({
            ...last,
            message: expect.stringMatching(last.message),
          });
    const finite = await generate({ ...options, scheduler: new DDIMScheduler({ steps_offset: 1 }) });
    expect(finite.points.every(Number.isFinite)).toBe(true);
    await expect(generate({ ...options, scheduler: new Overflows() })).rejects.toThrow(
      /Overflows\.step gave -?Infinity in step 3 of 5 \(timestep 400\).*Likely cause/,
    );
    await expect(generate({ ...options, scheduler: new Scales() })).rejects.toThrow(
      /Scales\.scaleModelInput gave -?Infinity in step 1 of 5/,
    );
    const poison = () => ({ sample: Float32Array.of(Number.NaN, 0) });
    await expect(generate({ ...options, callback_on_step_end: poison })).rejects.toThrow(
      /callback_on_step_end.*finite/,
    );
    await generate.dispose();
  });

  it('of images, in every way of drawing them', async () => {
    const file = path.join(folder, 'divides.onnx');
    await writeFile(file, divides([1, 4, 4]));
    const generate = await pipeline('unconditional-image-generation', file, { device: 'cpu' });
    const drawings = [
      generate(options),
      generate({ ...options, batch_size: 20, output_type: 'tensor' }),
      generate({ ...options, output_type: 'uint8', scheduler: 'DDIMScheduler' }),
      generate.toFolder(path.join(folder, 'images'), { ...options, count: 3 }),
      generate.batches({ ...options, count: 3 }).next(),
      evaluate({
        real: imagesFromArray(
          Uint8Array.from({ length: 640 }, (_, i) => (i * i) % 251),
          { height: 4, width: 4, channels: 1 },
        ),
        fake: generate,
        metrics: ['fid'],
        extractor: 'raw-pixels',
        num_samples: 20,
        generation: { num_inference_steps: 5 },
      }),
    ];
    for (const drawing of await Promise.allSettled(drawings)) {
      expect(drawing).toMatchObject({ status: 'rejected', reason: { name: 'NonFiniteSampleError', step: 5 } });
      expect(drawing.status === 'rejected' && drawing.reason).toBeInstanceOf(NonFiniteSampleError);
    }
    await generate.dispose();
  });
});
