import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { emaDecayAt, LR_SCHEDULERS, learningRateAt } from '../../src/trainers/schedules.ts';
import { resolveTrainingArguments } from '../../src/trainers/training-arguments.ts';

type LrSchedulerType = 'constant' | 'linear' | 'cosine';

/**
 * The tables of transformers' own test (tests/optimization/test_optimization.py, `test_schedulers`): learning rate 10,
 * 10 training steps, 2 of warm-up (4 for the constant rate), compared there to 1e-2.
 */
const published: [LrSchedulerType, number, number[]][] = [
  ['constant', 4, [0, 2.5, 5, 7.5, 10, 10, 10, 10, 10, 10]],
  ['linear', 2, [0, 5, 10, 8.75, 7.5, 6.25, 5, 3.75, 2.5, 1.25]],
  ['cosine', 2, [0, 5, 10, 9.61, 8.53, 6.91, 5, 3.08, 1.46, 0.38]],
];
const options = (lr_scheduler_type: LrSchedulerType) => ({
  learning_rate: 10,
  lr_scheduler_type,
  warmup_steps: 2,
});
/** The rate after `done` steps of a run of 10, as the tables count. */
const rateAfter = (done: number, given: ReturnType<typeof options>) => learningRateAt(done + 1, given, 10);

describe('learningRateAt', () => {
  it.each(published)(
    'gives the rates that transformers publishes for %s with warm-up',
    (type, warmup_steps, expected) => {
      // The tables are cut to two decimals, hence 1e-2.
      expected.forEach((rate, done) => {
        expect(Math.abs(rateAfter(done, { ...options(type), warmup_steps }) - rate)).toBeLessThan(1e-2);
      });
    },
  );

  it('starts at the full rate without warm-up', () => {
    const plain = { ...options('constant'), warmup_steps: 0, learning_rate: 1e-3 };
    expect([0, 1, 9, 100].map((done) => rateAfter(done, plain))).toEqual([1e-3, 1e-3, 1e-3, 1e-3]);
    expect(rateAfter(0, { ...options('linear'), warmup_steps: 0 })).toBe(10);
  });

  it.each(['linear', 'cosine'] as const)('%s is exactly 0 after the last step and later', (type) => {
    expect(rateAfter(10, options(type))).toBe(0);
    expect(rateAfter(17, options(type))).toBe(0);
  });

  it('survives a warm-up as long as the run', () => {
    const long = { ...options('cosine'), warmup_steps: 10 };
    expect(rateAfter(9, long)).toBeCloseTo(9, 12);
    expect(rateAfter(10, long)).toBe(10);
  });
});

interface PublishedSchedule {
  name: (typeof LR_SCHEDULERS)[number];
  options: {
    num_warmup_steps?: number;
    num_training_steps?: number;
    num_cycles?: number;
    power?: number;
    step_rules?: string;
  };
  base_learning_rate: number;
  learning_rate_of_step: number[];
}
// By diffusers' get_scheduler.
const schedules: PublishedSchedule[] = JSON.parse(
  readFileSync(new URL('../fixtures/optim/lr_schedules.json', import.meta.url), 'utf8'),
);

describe('the schedules of diffusers', () => {
  it('all have a case', () => {
    expect(new Set(schedules.map(({ name }) => name))).toEqual(new Set(LR_SCHEDULERS));
  });

  it.each(schedules)('$name $options', ({ name, options: given, base_learning_rate, learning_rate_of_step }) => {
    const { num_warmup_steps = 0, num_training_steps = 200 } = given;
    const args = resolveTrainingArguments({
      output_dir: 'run',
      learning_rate: base_learning_rate,
      lr_scheduler_type: name,
      warmup_steps: num_warmup_steps,
      lr_num_cycles: name === 'cosine_with_restarts' ? given.num_cycles : undefined,
      lr_power: given.power,
      lr_step_rules: given.step_rules,
    });
    expect(learning_rate_of_step).toHaveLength(200);
    // Both compute in float64.
    for (const [done, expected] of learning_rate_of_step.entries())
      expect(Math.abs(learningRateAt(done + 1, args, num_training_steps) - expected)).toBeLessThan(1e-17);
  });
});

describe('emaDecayAt', () => {
  const fixture = JSON.parse(readFileSync(new URL('../fixtures/optim/optimizers.json', import.meta.url), 'utf8')) as {
    adam: { ema_decay: number[] };
  };
  const defaults = { ema_inv_gamma: 1, ema_power: 0.75, ema_max_decay: 0.9999 };

  it("equals diffusers' warm-up with power 0.75 after each of ten steps", () => {
    // 15 digits: the same float64 formula; `**` may differ from Python's by one unit in the last place.
    fixture.adam.ema_decay.forEach((expected, i) => {
      expect(emaDecayAt(i + 1, defaults)).toBeCloseTo(expected, 15);
    });
  });

  it("equals diffusers' EMAModel.get_decay with and without warm-up, with a least decay and a later start", () => {
    const cases: {
      use_ema_warmup: boolean;
      decay: number;
      min_decay: number;
      update_after_step: number;
      inv_gamma: number;
      power: number;
      decay_of_step: number[];
    }[] = JSON.parse(readFileSync(new URL('../fixtures/optim/ema_decays.json', import.meta.url), 'utf8'));
    expect(cases).toHaveLength(3);
    for (const { decay_of_step, ...given } of cases)
      for (const [i, expected] of decay_of_step.entries())
        expect(
          emaDecayAt(i + 1, {
            ema_inv_gamma: given.inv_gamma,
            ema_power: given.power,
            ema_max_decay: given.decay,
            ema_min_decay: given.min_decay,
            ema_update_after_step: given.update_after_step,
            use_ema_warmup: given.use_ema_warmup,
          }),
        ).toBeCloseTo(expected, 15);
  });

  it('has the published decays: 0.999 at 31.6k steps with power 2/3, at 10k steps with power 3/4', () => {
    // Figures of the docstring of diffusers' EMAModel, given there to three digits of the step.
    expect(emaDecayAt(31_600, { ...defaults, ema_power: 2 / 3 })).toBeCloseTo(0.999, 5);
    expect(emaDecayAt(10_000, defaults)).toBeCloseTo(0.999, 5);
  });

  it('is at most the largest decay, and 0 at the first step', () => {
    expect(emaDecayAt(1e9, defaults)).toBe(0.9999);
    expect(emaDecayAt(2, { ...defaults, ema_max_decay: 0.25 })).toBe(0.25);
    expect(emaDecayAt(1, defaults)).toBe(0);
  });

  it('a larger inv_gamma makes the warm-up longer', () => {
    expect(emaDecayAt(9, { ...defaults, ema_inv_gamma: 8, ema_power: 1 })).toBe(0.5);
  });
});

it.each([
  { learning_rate: -1 },
  { learning_rate: Number.NaN },
  { warmup_steps: 1.5 },
  { max_steps: -3 },
  { lr_scheduler_type: 'exponential' as 'linear' },
  { ema_inv_gamma: 0 },
  { ema_power: -1 },
  { ema_max_decay: -0.1 },
  { ema_max_decay: 1.1 },
  { ema_max_decay: Number.NaN },
  { ema_min_decay: 0.99999 },
  { ema_update_after_step: -1 },
  { lr_num_cycles: 2 },
  { lr_scheduler_type: 'cosine_with_restarts' as const, lr_num_cycles: 0 },
  { lr_scheduler_type: 'cosine' as const, lr_power: 2 },
  { lr_scheduler_type: 'polynomial' as const, lr_power: 0 },
  { lr_scheduler_type: 'polynomial' as const, lr_end: 1 },
  { lr_scheduler_type: 'piecewise_constant' as const },
  { lr_scheduler_type: 'piecewise_constant' as const, lr_step_rules: '1:50,0.1', warmup_steps: 5 },
  { lr_scheduler_type: 'piecewise_constant' as const, lr_step_rules: '1:50,0.1:50,0.01' },
  { lr_scheduler_type: 'piecewise_constant' as const, lr_step_rules: '1:50,x' },
  { lr_scheduler_type: 'piecewise_constant' as const, lr_step_rules: '1:50' },
  { lr_scheduler_type: 'piecewise_constant' as const, lr_step_rules: '1:x,0.1' },
])('arguments refuse %o', (wrong) => {
  expect(() => resolveTrainingArguments({ output_dir: 'run', ...wrong })).toThrow(InvalidArgumentError);
});
