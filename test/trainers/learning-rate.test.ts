import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import {
  type LearningRateOptions,
  type LrSchedulerType,
  learningRateAt,
} from '../../src/trainers/learning-rate.ts';

/**
 * The tables of transformers' own test (tests/optimization/test_optimization.py, `test_schedulers`): learning rate 10,
 * 10 training steps, 2 of warm-up (4 for the constant rate), compared there to 1e-2.
 */
const published: [LrSchedulerType, number, number[]][] = [
  ['constant', 4, [0, 2.5, 5, 7.5, 10, 10, 10, 10, 10, 10]],
  ['linear', 2, [0, 5, 10, 8.75, 7.5, 6.25, 5, 3.75, 2.5, 1.25]],
  ['cosine', 2, [0, 5, 10, 9.61, 8.53, 6.91, 5, 3.08, 1.46, 0.38]],
];
const options = (lr_scheduler_type: LrSchedulerType): LearningRateOptions => ({
  learning_rate: 10,
  lr_scheduler_type,
  warmup_steps: 2,
  max_steps: 10,
});

describe('learningRateAt', () => {
  it.each(published)(
    'gives the rates that transformers publishes for %s with warm-up',
    (type, warmup_steps, expected) => {
      // The tables are cut to two decimals, hence 1e-2.
      expected.forEach((rate, step) => {
        expect(Math.abs(learningRateAt(step, { ...options(type), warmup_steps }) - rate)).toBeLessThan(1e-2);
      });
    },
  );

  it('starts at the full rate without warm-up', () => {
    const plain = { ...options('constant'), warmup_steps: 0, learning_rate: 1e-3 };
    expect([0, 1, 9, 100].map((step) => learningRateAt(step, plain))).toEqual([1e-3, 1e-3, 1e-3, 1e-3]);
    expect(learningRateAt(0, { ...options('linear'), warmup_steps: 0 })).toBe(10);
  });

  it.each(['linear', 'cosine'] as const)('%s is exactly 0 at the last step and after it', (type) => {
    expect(learningRateAt(10, options(type))).toBe(0);
    expect(learningRateAt(17, options(type))).toBe(0);
  });

  it('survives a warm-up as long as the run', () => {
    const long = { ...options('cosine'), warmup_steps: 10 };
    expect(learningRateAt(9, long)).toBeCloseTo(9, 12);
    expect(learningRateAt(10, long)).toBe(10);
  });

  it.each([
    [-1, {}],
    [0.5, {}],
    [0, { learning_rate: -1 }],
    [0, { learning_rate: Number.NaN }],
    [0, { warmup_steps: 1.5 }],
    [0, { max_steps: -3 }],
    [0, { lr_scheduler_type: 'exponential' as LrSchedulerType }],
  ])('refuses step %s with %o', (step, wrong) => {
    expect(() => learningRateAt(step, { ...options('linear'), ...wrong })).toThrow(InvalidArgumentError);
  });
});
