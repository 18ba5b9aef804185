import type { ResolvedTrainingArguments } from './training-arguments.ts';

// What changes from step to step: the learning rate and the decay of the moving average.

type LearningRateArguments = Pick<ResolvedTrainingArguments, 'learning_rate' | 'lr_scheduler_type' | 'warmup_steps'>;
type EmaArguments = Pick<ResolvedTrainingArguments, 'ema_inv_gamma' | 'ema_power' | 'ema_max_decay'>;

/**
 * The learning rate of a step, as transformers' `get_constant_schedule_with_warmup`, `get_linear_schedule_with_warmup`
 * and `get_cosine_schedule_with_warmup` (half a cosine) give it.
 *
 * @param step from 1.
 * @param maxSteps steps of the whole run, warm-up included.
 * @example
 * learningRateAt(51, { learning_rate: 1e-3, lr_scheduler_type: 'linear', warmup_steps: 0 }, 100); // 0.0005
 */
export function learningRateAt(
  step: number,
  { learning_rate, lr_scheduler_type, warmup_steps }: LearningRateArguments,
  maxSteps: number,
): number {
  const done = step - 1;
  if (done < warmup_steps) return learning_rate * (done / Math.max(1, warmup_steps));
  const decaySteps = Math.max(1, maxSteps - warmup_steps);
  switch (lr_scheduler_type) {
    case 'constant':
      return learning_rate;
    case 'linear':
      return learning_rate * Math.max(0, (maxSteps - done) / decaySteps);
    case 'cosine': {
      // transformers' formula rises again past the last step; a schedule that has ended stays at 0.
      const progress = Math.min(1, (done - warmup_steps) / decaySteps);
      return learning_rate * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)));
    }
  }
}

/**
 * The decay d with which a step updates the moving average of the weights, `ema = d * ema + (1 - d) * weights`, as
 * diffusers' `EMAModel.get_decay` gives it with `use_ema_warmup`: 1 - (1 + n / inv_gamma)^-power after n earlier steps, at
 * most `max_decay`. The first step copies the weights.
 *
 * @param step from 1.
 * @example
 * emaDecayAt(2, { ema_inv_gamma: 1, ema_power: 0.75, ema_max_decay: 0.9999 }); // 0.4053964424986395
 */
export function emaDecayAt(step: number, { ema_inv_gamma, ema_power, ema_max_decay }: EmaArguments): number {
  const earlier = step - 1;
  if (earlier <= 0) return 0;
  return Math.min(1 - (1 + earlier / ema_inv_gamma) ** -ema_power, ema_max_decay);
}
