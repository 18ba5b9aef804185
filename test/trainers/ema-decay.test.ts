import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { emaDecayAt } from '../../src/trainers/ema-decay.ts';

const fixture = JSON.parse(
  readFileSync(new URL('../fixtures/optim/optimizers.json', import.meta.url), 'utf8'),
) as { adam: { ema_decay: number[] } };

describe('emaDecayAt', () => {
  it("equals diffusers' warm-up with power 0.75 after each of ten steps", () => {
    // 15 digits: the same float64 formula; `**` may differ from Python's by one unit in the last place.
    fixture.adam.ema_decay.forEach((expected, i) => {
      expect(emaDecayAt(i + 1, { use_ema_warmup: true, power: 0.75 })).toBeCloseTo(expected, 15);
    });
  });

  it('has the published decays: 0.999 at 31.6k steps with power 2/3, at 10k steps with power 3/4', () => {
    // Figures of the docstring of diffusers' EMAModel, given there to three digits of the step.
    expect(emaDecayAt(31_600, { use_ema_warmup: true })).toBeCloseTo(0.999, 5);
    expect(emaDecayAt(10_000, { use_ema_warmup: true, power: 3 / 4 })).toBeCloseTo(0.999, 5);
  });

  it('without warm-up follows (1 + step) / (10 + step)', () => {
    expect([1, 2, 3, 11].map((step) => emaDecayAt(step))).toEqual([0, 2 / 11, 3 / 12, 11 / 20]);
  });

  it('is held between min_decay and max_decay, except while it only copies', () => {
    expect(emaDecayAt(1e9)).toBe(0.9999);
    expect(emaDecayAt(2, { min_decay: 0.5 })).toBe(0.5);
    expect(emaDecayAt(1, { min_decay: 0.5 })).toBe(0);
    expect(emaDecayAt(101, { update_after_step: 100, min_decay: 0.5 })).toBe(0);
    expect(emaDecayAt(102, { update_after_step: 100 })).toBe(emaDecayAt(2));
  });

  it('inv_gamma stretches the warm-up', () => {
    expect(emaDecayAt(9, { use_ema_warmup: true, inv_gamma: 8, power: 1 })).toBe(0.5);
  });

  it.each([
    { inv_gamma: 0 },
    { power: -1 },
    { min_decay: -0.1 },
    { max_decay: 1.1 },
    { min_decay: 0.9, max_decay: 0.5 },
    { max_decay: Number.NaN },
    { update_after_step: 0.5 },
  ])('refuses %o', (options) => {
    expect(() => emaDecayAt(5, options)).toThrow(InvalidArgumentError);
  });
});
