import { describe, expect, it } from 'vitest';
import { ConfigError, InvalidArgumentError } from '../../src/errors.ts';
import { DDIMScheduler, DDPMScheduler, schedulerFromConfig } from '../../src/schedulers/index.ts';

describe('scheduler configs', () => {
  it.each([
    [{ beta_schedule: 'quadratic' }, /beta_schedule/],
    [{ prediction_type: 'noise' }, /prediction_type/],
    [{ variance_type: 'large' }, /variance_type/],
    [{ num_train_timesteps: 0 }, /num_train_timesteps/],
    [{ trained_betas: [0.1, 0.2] }, /trained_betas has 2 values/],
  ])('%j is refused by name', (options, message) => {
    expect(() => DDPMScheduler.fromConfig(options)).toThrow(ConfigError);
    expect(() => DDPMScheduler.fromConfig(options)).toThrow(message);
  });

  it('ignores keys of other schedulers, refuses other classes', () => {
    expect(
      DDPMScheduler.fromConfig({ _class_name: 'DDPMScheduler', lower_order_final: true }).config,
    ).not.toHaveProperty('lower_order_final');
    expect(() => schedulerFromConfig({ _class_name: 'KDPM2DiscreteScheduler' })).toThrow(ConfigError);
    expect(() => schedulerFromConfig('DDPMScheduler')).toThrow(ConfigError);
  });

  it('takes trained betas', () => {
    const scheduler = new DDPMScheduler({ num_train_timesteps: 2, trained_betas: [0.1, 0.5] });
    expect(scheduler.alphasCumprod[1]).toBeCloseTo(0.9 * 0.5, 7);
  });

  it('has the sigmoid betas of diffusers', () => {
    // torch.sigmoid(torch.linspace(-6, 6, 5)) * (0.02 - 0.0001) + 0.0001
    const { betas } = new DDPMScheduler({ num_train_timesteps: 5, beta_schedule: 'sigmoid' });
    const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
    [-6, -3, 0, 3, 6].forEach((x, i) => {
      expect(betas[i]).toBeCloseTo(sigmoid(x) * 0.0199 + 0.0001, 8);
    });
  });
});

describe('steps', () => {
  const values = Float32Array.of(0.5, -0.5);

  it('refuses what does not fit', () => {
    const ddpm = new DDPMScheduler();
    expect(() => ddpm.setTimesteps(1001)).toThrow(/1001/);
    expect(() => ddpm.setTimesteps(undefined, { timesteps: [5, 9] })).toThrow(InvalidArgumentError);
    expect(() => ddpm.step(values, 1000, values)).toThrow(/timestep 1000/);
    expect(() => ddpm.step(values, 10, values)).toThrow(/noise/);
    expect(() => ddpm.step(values.subarray(1), 0, values)).toThrow(/1 values/);
    expect(() => new DDIMScheduler().step(values, 10, values, { eta: 2 })).toThrow(/eta is 2/);
    expect(() => new DDPMScheduler({ thresholding: true }).step(values, 0, values)).toThrow(/sample_shape/);
    expect(() => new DDPMScheduler({ variance_type: 'learned' }).step(values, 0, values)).toThrow(/learned variance/);
  });

  it('has no coefficients where a step is not a combination', () => {
    expect(new DDPMScheduler({ thresholding: true }).stepCoefficients(5)).toBeNull();
    expect(new DDPMScheduler({ variance_type: 'learned_range' }).stepCoefficients(5)).toBeNull();
    expect(new DDIMScheduler().stepCoefficients(5)).not.toBeNull();
  });
});
