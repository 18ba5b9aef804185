import { InvalidArgumentError } from '../errors.ts';

export const lrSchedulerTypes = ['constant', 'linear', 'cosine'] as const;
export type LrSchedulerType = (typeof lrSchedulerTypes)[number];

export interface LearningRateOptions {
  /** The peak learning rate, >= 0. */
  readonly learning_rate: number;
  /** What follows the warm-up: no change, or a fall to 0 at `max_steps` along a line or half a cosine. */
  readonly lr_scheduler_type: LrSchedulerType;
  /** Steps over which the rate rises from 0 along a line; 0 for none. */
  readonly warmup_steps: number;
  /** Steps of the whole run, warm-up included. */
  readonly max_steps: number;
}

/**
 * The learning rate of one step, as transformers' `get_constant_schedule_with_warmup`,
 * `get_linear_schedule_with_warmup` and `get_cosine_schedule_with_warmup` (half a cosine) give it.
 *
 * @param step how many optimizer steps were done before this one: 0 for the first.
 * @throws InvalidArgumentError if an option is out of its range.
 * @example
 * learningRateAt(50, { learning_rate: 1e-3, lr_scheduler_type: 'linear', warmup_steps: 0, max_steps: 100 }); // 0.0005
 */
export function learningRateAt(step: number, options: LearningRateOptions): number {
  checkOptions(step, options);
  return options.learning_rate * factorAt(step, options);
}

function factorAt(step: number, { lr_scheduler_type, warmup_steps, max_steps }: LearningRateOptions): number {
  if (step < warmup_steps) return step / Math.max(1, warmup_steps);
  const decaySteps = Math.max(1, max_steps - warmup_steps);
  switch (lr_scheduler_type) {
    case 'constant':
      return 1;
    case 'linear':
      return Math.max(0, (max_steps - step) / decaySteps);
    case 'cosine': {
      // transformers' formula rises again past max_steps; a schedule that has ended stays at 0.
      const progress = Math.min(1, (step - warmup_steps) / decaySteps);
      return Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)));
    }
  }
}

function checkOptions(step: number, options: LearningRateOptions): void {
  if (!Number.isFinite(options.learning_rate) || options.learning_rate < 0) {
    throw new InvalidArgumentError(`learning_rate must be finite and >= 0, not ${options.learning_rate}.`);
  }
  if (!lrSchedulerTypes.includes(options.lr_scheduler_type)) {
    throw new InvalidArgumentError(
      `lr_scheduler_type must be one of ${lrSchedulerTypes.join(', ')}, not ${options.lr_scheduler_type}.`,
    );
  }
  const counts = { step, warmup_steps: options.warmup_steps, max_steps: options.max_steps };
  for (const [name, value] of Object.entries(counts)) {
    if (!Number.isSafeInteger(value) || value < 0) {
      throw new InvalidArgumentError(`${name} must be an integer >= 0, not ${value}.`);
    }
  }
}
