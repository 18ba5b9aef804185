import { describe, expect, it } from 'vitest';
import { schedulerFromConfig } from '../../src/schedulers/registry.ts';

// Data of N(MEAN, SPREAD^2) in one dimension, whose noise is known exactly: the process without noise of its own takes the
// sample z deviations from the mean at one timestep to the one z deviations from it at every other (by hand).
const [MEAN, SPREAD, STEPS, BEGIN] = [0.5, 0.4, 120, 50] as const;
const T = 1000;

const solvers = {
  DDIMScheduler: {},
  DPMSolverMultistepScheduler: {},
  DPMSolverSinglestepScheduler: { solver_order: 3 },
  UniPCMultistepScheduler: {},
  DEISMultistepScheduler: {},
  PNDMScheduler: { timestep_spacing: 'leading' },
  'PNDMScheduler, without Runge-Kutta': { timestep_spacing: 'leading', skip_prk_steps: true },
  EulerDiscreteScheduler: {},
  HeunDiscreteScheduler: {},
  LMSDiscreteScheduler: {},
};
/** Their samples are x_t / sqrt(abar_t), as diffusers' add_noise makes them. */
const inSigma = ['EulerDiscreteScheduler', 'HeunDiscreteScheduler', 'LMSDiscreteScheduler'];

describe.each(Object.entries(solvers))('%s begins at a later step', (name, options) => {
  const [className = ''] = name.split(',');
  const started = () => {
    const scheduler = schedulerFromConfig({
      timestep_spacing: 'trailing',
      clip_sample: false,
      ...options,
      _class_name: className,
    });
    scheduler.setTimesteps(STEPS);
    return scheduler;
  };

  it('with a sample of its noise level, and ends where the whole process would', () => {
    const scheduler = started();
    const { timesteps, alphasCumprod } = scheduler;
    expect(scheduler.stepStarts).toHaveLength(STEPS);
    const begin = scheduler.stepStarts[BEGIN] ?? Number.NaN;
    const alphaBarAt = (index: number) => alphasCumprod[timesteps[index] ?? Number.NaN] ?? Number.NaN;
    const deviation = (alphaBar: number) => Math.sqrt(alphaBar * SPREAD ** 2 + 1 - alphaBar);
    const scale = inSigma.includes(className) ? 1 / Math.sqrt(alphaBarAt(begin)) : 1;
    const { signal, noise } = scheduler.noiseLevel(begin);
    expect(signal).toBeCloseTo(scale * Math.sqrt(alphaBarAt(begin)), 5);
    expect(noise).toBeCloseTo(scale * Math.sqrt(1 - alphaBarAt(begin)), 5);

    const z = [-1.5, -0.5, 0, 1, 2];
    let sample = Float32Array.from(z, (each) => {
      const bar = alphaBarAt(begin);
      return scale * (Math.sqrt(bar) * MEAN + deviation(bar) * each);
    });
    scheduler.setBeginIndex(begin);
    for (let index = begin; index < timesteps.length; index++) {
      const timestep = timesteps[index] ?? Number.NaN;
      const bar = alphaBarAt(index);
      const predicted = scheduler
        .scaleModelInput(sample, timestep)
        .map((x) => (Math.sqrt(1 - bar) * (x - Math.sqrt(bar) * MEAN)) / deviation(bar) ** 2);
      sample = Float32Array.from(scheduler.step(predicted, timestep, sample, { sample_shape: [5, 1] }).prev_sample);
    }
    for (const [i, each] of z.entries())
      expect(Math.abs((sample[i] ?? Number.NaN) - (MEAN + SPREAD * each))).toBeLessThan(0.03);
  });
});

it('knows that a timestep that comes twice is two entries', () => {
  const scheduler = schedulerFromConfig({
    _class_name: 'DPMSolverMultistepScheduler',
    use_karras_sigmas: true,
    num_train_timesteps: T / 10,
  });
  scheduler.setTimesteps(50);
  const { timesteps } = scheduler;
  const twice = timesteps.findIndex((timestep, i) => timestep === timesteps[i + 1]);
  expect(twice).toBeGreaterThan(0);
  scheduler.setBeginIndex(twice);
  let sample = new Float32Array([1]);
  for (const timestep of timesteps.slice(twice))
    sample = Float32Array.from(scheduler.step(sample, timestep, sample, {}).prev_sample);
  expect(Number.isFinite(sample[0])).toBe(true);
});
