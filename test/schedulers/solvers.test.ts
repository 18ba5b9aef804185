import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ConfigError, InvalidArgumentError } from '../../src/errors.ts';
import { DDPMScheduler, type Scheduler } from '../../src/schedulers/index.ts';
import {
  asScheduler,
  namedSchedulerConfig,
  schedulerFromConfig,
  schedulerNames,
  schedulers,
} from '../../src/schedulers/registry.ts';

/** Made with real diffusers 0.32.0: a whole trajectory of one sample of shape [1, 2, 3]. */
interface Trajectory {
  readonly config: Record<string, unknown>;
  readonly given: Record<string, unknown>;
  readonly num_inference_steps: number;
  readonly init_noise_sigma: number;
  readonly timesteps: number[];
  readonly sigmas: number[] | null;
  readonly shape: number[];
  readonly initial_sample: number[];
  readonly steps: { model_input: number[]; model_output: number[]; noise: number[][]; prev_sample: number[] }[];
}

const folder = new URL('../fixtures/samplers/', import.meta.url);
const cases = readdirSync(folder).map((file) => {
  const text = readFileSync(new URL(file, folder), 'utf8').replaceAll('-Infinity', 'null');
  return [file.replace('.json', ''), JSON.parse(text) as Trajectory] as const;
});

/** The largest distance, relative to 1 + |value|. */
function distance(actual: ArrayLike<number>, expected: readonly number[]): number {
  expect(actual).toHaveLength(expected.length);
  return Math.max(
    0,
    ...expected.map((value, i) => Math.abs((actual[i] ?? Number.NaN) - value) / (1 + Math.abs(value))),
  );
}

const flat = (values: readonly unknown[]) => values.flat(5) as number[];

describe.each(cases)('%s', (_name, { config, given, ...reference }) => {
  const made = (): Scheduler & { sigmas?: number[] } => {
    const scheduler = schedulerFromConfig({ ...given, _class_name: config._class_name });
    scheduler.setTimesteps(reference.num_inference_steps);
    return scheduler;
  };

  it('has the timesteps, sigmas and first noise of diffusers', () => {
    const scheduler = made();
    expect(distance(scheduler.timesteps, reference.timesteps)).toBeLessThan(1e-6);
    if (reference.sigmas) expect(distance(scheduler.sigmas ?? [], reference.sigmas)).toBeLessThan(1e-6);
    expect(distance([scheduler.init_noise_sigma], [reference.init_noise_sigma])).toBeLessThan(1e-6);
  });

  it('takes every step of diffusers from where diffusers was', () => {
    const scheduler = made();
    let sample = flat(reference.initial_sample);
    reference.steps.forEach(({ model_input, model_output, noise, prev_sample }, i) => {
      const timestep = scheduler.timesteps[i] ?? Number.NaN;
      const given = Float32Array.from(sample);
      expect(distance(scheduler.scaleModelInput(given, timestep), flat(model_input))).toBeLessThan(1e-4);
      const options = { noise: noise[0] && Float32Array.from(flat(noise[0])), sample_shape: reference.shape };
      const { prev_sample: next } = scheduler.step(Float32Array.from(flat(model_output)), timestep, given, options);
      expect(distance(next, flat(prev_sample)), `step ${i}`).toBeLessThan(1e-4);
      sample = flat(prev_sample);
    });
  });

  it('ends where diffusers does, with the model of the fixtures', () => {
    const scheduler = made();
    const T = scheduler.config.num_train_timesteps;
    let sample = Float32Array.from(flat(reference.initial_sample));
    reference.steps.forEach(({ noise }, i) => {
      const timestep = scheduler.timesteps[i] ?? Number.NaN;
      const input = scheduler.scaleModelInput(sample, timestep);
      const output = input.map((x) => Math.tanh(0.7 * x) * (0.2 + (0.8 * timestep) / T) + 0.05 * Math.cos(3 * x));
      const options = { noise: noise[0] && Float32Array.from(flat(noise[0])), sample_shape: reference.shape };
      sample = scheduler.step(output, timestep, sample, options).prev_sample as Float32Array<ArrayBuffer>;
    });
    expect(distance(sample, flat(reference.steps.at(-1)?.prev_sample ?? []))).toBeLessThan(1e-3);
  });

  it('has the config of diffusers', () => {
    const saved = made().toConfig();
    // flow_shift does nothing without use_flow_sigmas, which is not built.
    const own = Object.fromEntries(
      Object.entries(config).filter(([key]) => !key.startsWith('_') && key !== 'flow_shift'),
    );
    expect(saved).toMatchObject({ _class_name: config._class_name });
    for (const [key, value] of Object.entries(own)) expect([key, saved[key] ?? null]).toEqual([key, value]);
    expect(schedulerFromConfig(saved).toConfig()).toEqual(saved);
  });
});

it('there are 28 trajectories', () => {
  expect(cases).toHaveLength(28);
});

describe('schedules at their limits stay finite', () => {
  const names = schedulers.names().filter((name) => /Solver|UniPC|Euler|Heun|PNDM|LMS|DEIS|Inverse/.test(name));
  const limits = {
    'zero terminal SNR': { rescale_betas_zero_snr: true, prediction_type: 'v_prediction' },
    'no noise in the first step': { beta_start: 0 },
    'a cosine': { beta_schedule: 'squaredcos_cap_v2' },
  };
  for (const [limit, options] of Object.entries(limits))
    it.each(names)(`${limit}: %s`, (name) => {
      for (const timestep_spacing of ['linspace', 'leading', 'trailing'] as const)
        for (const count of [5, 20, 500]) {
          const scheduler = schedulerFromConfig({ _class_name: name, ...options, timestep_spacing });
          try {
            scheduler.setTimesteps(count);
          } catch (error) {
            // Where a timestep has no noise at all there is nothing to step from, which is said before the first step.
            expect(error).toBeInstanceOf(InvalidArgumentError);
            expect(limit).toBe('no noise in the first step');
            continue;
          }
          let sample = Float32Array.of(0.3, -1).map((x) => x * scheduler.init_noise_sigma);
          for (const timestep of scheduler.timesteps) {
            const output = scheduler.scaleModelInput(sample, timestep).map((x) => 0.9 * x);
            const noise = Float32Array.of(0.5, -0.5);
            sample = scheduler.step(output, timestep, sample, { noise, sample_shape: [1, 2] }).prev_sample.slice();
            expect(sample.every(Number.isFinite), `${timestep_spacing}, ${count} steps, at ${timestep}`).toBe(true);
          }
        }
    });
});

describe('more steps than a solver can take, and steps out of turn', () => {
  it.each([
    ['DPMSolverMultistepScheduler', 1000],
    ['UniPCMultistepScheduler', 1000],
    ['EulerDiscreteScheduler', 1001],
    ['PNDMScheduler', 3],
    ['HeunDiscreteScheduler', 0],
    ['LMSDiscreteScheduler', 1.5],
  ])('%s refuses %d', (name, count) => {
    expect(() => schedulerFromConfig({ _class_name: name }).setTimesteps(count)).toThrow(/num_inference_steps/);
  });

  it('is refused with the timestep that is due', () => {
    const scheduler = schedulerFromConfig({ _class_name: 'DPMSolverMultistepScheduler' });
    const step = (timestep: number) => scheduler.step(Float32Array.of(1), timestep, Float32Array.of(1));
    expect(() => step(999)).toThrow(/setTimesteps/);
    scheduler.setTimesteps(10);
    const [first = 0, second = 0] = scheduler.timesteps;
    step(first);
    expect(() => step(first)).toThrow(new RegExp(`at the timestep ${second}, but was called with ${first}`));
  });

  it.each([
    [{ algorithm_type: 'dpmsolver' }, /final_sigmas_type 'sigma_min'/],
    [{ algorithm_type: 'sde-dpmsolver', final_sigmas_type: 'sigma_min', solver_order: 3 }, /solver_order 3/],
    [{ use_karras_sigmas: true, use_exponential_sigmas: true }, /exclude each other/],
    [{ use_beta_sigmas: true }, /use_beta_sigmas/],
    [{ solver_order: 4 }, /solver_order/],
  ])('%j is refused', (options, message) => {
    const config = { _class_name: 'DPMSolverMultistepScheduler', ...options };
    expect(() => schedulerFromConfig(config)).toThrow(ConfigError);
    expect(() => schedulerFromConfig(config)).toThrow(message);
  });
});

describe('short names', () => {
  it('mean the classes, whatever their case, and a class name means itself', () => {
    const names = ['dpm++', 'DPM++', 'euler', 'euler-a', 'unipc', 'ddiminverse', 'DDIMScheduler'];
    expect(names.map((name) => namedSchedulerConfig(name)._class_name)).toEqual([
      'DPMSolverMultistepScheduler',
      'DPMSolverMultistepScheduler',
      'EulerDiscreteScheduler',
      'EulerAncestralDiscreteScheduler',
      'UniPCMultistepScheduler',
      'DDIMInverseScheduler',
      'DDIMScheduler',
    ]);
    expect(() => namedSchedulerConfig('eulr')).toThrow(/'eulr' is unknown.*Did you mean 'euler'/);
  });

  it('are offered for every scheduler that draws', () => {
    const offered = schedulerNames().map((name) => namedSchedulerConfig(name)._class_name);
    const drawing = schedulers.names().filter((name) => name !== 'DDIMInverseScheduler');
    expect(new Set(offered)).toEqual(new Set(drawing));
  });

  it("with -karras space sigmas as Karras does, also where the model's own scheduler has another spacing", () => {
    const own = schedulerFromConfig({ _class_name: 'EulerDiscreteScheduler', use_exponential_sigmas: true });
    expect(asScheduler('dpm++-karras', own).config).toMatchObject({
      use_karras_sigmas: true,
      use_exponential_sigmas: false,
    });
    expect(asScheduler('dpm++', new DDPMScheduler()).config).toMatchObject({ use_karras_sigmas: false });
  });
});
