import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { schedulerFromConfig } from '../../src/schedulers/index.ts';

interface FixtureTensor {
  shape: number[];
  data: number[];
}
interface FixtureStep {
  num_inference_steps: number | null;
  custom_timesteps: number[] | null;
  timestep: number;
  eta?: number;
  use_clipped_model_output?: boolean;
  sample: FixtureTensor;
  model_output: FixtureTensor;
  noise?: FixtureTensor | null;
  prev_sample: FixtureTensor;
  prev_sample_f64: FixtureTensor;
  pred_original_sample: FixtureTensor;
  pred_original_sample_f64: FixtureTensor;
}
interface Combination {
  timesteps: number[];
  noise: FixtureTensor;
  result: FixtureTensor;
}
interface Fixture {
  config: Record<string, unknown>;
  table: {
    index: number[];
    betas: number[];
    alphas_cumprod: number[];
    betas_f64: number[];
    alphas_cumprod_f64: number[];
  };
  steps: FixtureStep[];
  add_noise: Combination & { original_samples: FixtureTensor };
  get_velocity: Combination & { sample: FixtureTensor };
  timesteps: { timestep_spacing: string; num_inference_steps: number; timesteps: number[] }[];
}

const folder = new URL('../fixtures/schedulers/', import.meta.url);
const fixtures = readdirSync(folder).map(
  (file) => [file, JSON.parse(readFileSync(new URL(file, folder), 'utf8')) as Fixture] as const,
);

/** |a - b| <= tolerance (1 + |b|) everywhere. */
function expectClose(actual: ArrayLike<number>, expected: number[], tolerance: number): void {
  expect(actual.length).toBe(expected.length);
  let worst = 0;
  expected.forEach((value, i) => {
    worst = Math.max(worst, Math.abs((actual[i] as number) - value) / (1 + Math.abs(value)));
  });
  expect(worst).toBeLessThanOrEqual(tolerance);
}
const toFloat32 = ({ data }: FixtureTensor) => Float32Array.from(data);

describe.each(fixtures)('%s', (_file, fixture) => {
  it('has the betas and cumulative alphas of diffusers', () => {
    const scheduler = schedulerFromConfig(fixture.config);
    const { index, betas, alphas_cumprod } = fixture.table;
    // A few float32 roundings apart: torch vectorises its elementwise arithmetic differently.
    expectClose(
      index.map((i) => scheduler.betas[i] as number),
      betas,
      3e-7,
    );
    expectClose(
      index.map((i) => scheduler.alphasCumprod[i] as number),
      alphas_cumprod,
      3e-7,
    );
  });

  it('steps as diffusers', () => {
    for (const step of fixture.steps) {
      const scheduler = schedulerFromConfig(fixture.config);
      const steppedTo = step.timestep - Math.floor(1000 / (step.num_inference_steps ?? 1000));
      if (step.custom_timesteps) scheduler.setTimesteps(undefined, { timesteps: step.custom_timesteps });
      // diffusers' DDIM goes to t - floor(T / N), which with linspace is not the next of its timesteps.
      else if (step.eta !== undefined && fixture.config.timestep_spacing === 'linspace')
        scheduler.setTimesteps(undefined, { timesteps: [step.timestep, steppedTo].filter((t) => t >= 0) });
      else if (step.num_inference_steps !== null) scheduler.setTimesteps(step.num_inference_steps);
      const { prev_sample, pred_original_sample } = scheduler.step(
        toFloat32(step.model_output),
        step.timestep,
        toFloat32(step.sample),
        {
          noise: step.noise ? toFloat32(step.noise) : undefined,
          sample_shape: step.sample.shape,
          eta: step.eta,
          use_clipped_model_output: step.use_clipped_model_output,
        },
      );
      // Where diffusers' own float32 is further than that from its float64, its error is the tolerance: near t = T,
      // 1 / sqrt(abar) = 157 magnifies every rounding.
      const own = (a: FixtureTensor, b: FixtureTensor) => Math.max(2e-5, 4 * relativeError(a.data, b.data));
      expectClose(
        pred_original_sample ?? [],
        step.pred_original_sample_f64.data,
        own(step.pred_original_sample, step.pred_original_sample_f64),
      );
      expectClose(prev_sample, step.prev_sample_f64.data, own(step.prev_sample, step.prev_sample_f64));
    }
  });

  it('noises as diffusers', () => {
    const scheduler = schedulerFromConfig(fixture.config);
    const { add_noise, get_velocity } = fixture;
    const size = add_noise.noise.data.length / add_noise.timesteps.length;
    expectClose(
      scheduler.addNoise(toFloat32(add_noise.original_samples), toFloat32(add_noise.noise), add_noise.timesteps, size),
      add_noise.result.data,
      2e-6,
    );
    expectClose(
      scheduler.getVelocity(
        toFloat32(get_velocity.sample),
        toFloat32(get_velocity.noise),
        get_velocity.timesteps,
        size,
      ),
      get_velocity.result.data,
      2e-6,
    );
  });

  it('spaces timesteps as diffusers', () => {
    for (const { timestep_spacing, num_inference_steps, timesteps } of fixture.timesteps) {
      const scheduler = schedulerFromConfig({ ...fixture.config, timestep_spacing });
      const set = () => scheduler.setTimesteps(num_inference_steps);
      // With a steps_offset and all T steps, the first timestep of diffusers is T, at which its step fails.
      if (timesteps.some((timestep) => timestep >= 1000)) return expect(set).toThrow(/steps_offset 1 moves/);
      set();
      expect(scheduler.timesteps).toEqual(timesteps);
    }
  });

  it('survives a round trip through JSON', () => {
    const scheduler = schedulerFromConfig(fixture.config);
    const again = schedulerFromConfig(JSON.parse(JSON.stringify(scheduler.toConfig())));
    expect(again.toConfig()).toEqual(scheduler.toConfig());
    expect(scheduler.toConfig()).toMatchObject(fixture.config);
  });
});

function relativeError(a: number[], b: number[]): number {
  return a.reduce(
    (worst, value, i) => Math.max(worst, Math.abs(value - (b[i] as number)) / (1 + Math.abs(b[i] as number))),
    0,
  );
}
