import { InvalidArgumentError } from '../errors.ts';

// What changes from step to step: the learning rate and the decay of the moving average.

/** How the learning rate goes on after the warm-up, by diffusers' names. */
export const LR_SCHEDULERS = [
  'constant',
  'constant_with_warmup',
  'linear',
  'cosine',
  'cosine_with_restarts',
  'polynomial',
  'piecewise_constant',
] as const;

/** See `TrainingArguments`. */
interface LearningRateArguments {
  readonly learning_rate: number;
  readonly lr_scheduler_type: (typeof LR_SCHEDULERS)[number];
  readonly warmup_steps: number;
  readonly lr_num_cycles?: number | undefined;
  readonly lr_power?: number | undefined;
  readonly lr_end?: number | undefined;
  readonly lr_step_rules?: string | undefined;
}

/** See `TrainingArguments`. */
interface EmaArguments {
  readonly ema_inv_gamma: number;
  readonly ema_power: number;
  readonly ema_max_decay: number;
  readonly ema_min_decay?: number | undefined;
  readonly ema_update_after_step?: number | undefined;
  readonly use_ema_warmup?: boolean | undefined;
}

/**
 * The learning rate of a step, as the schedules of diffusers' `get_scheduler` give it. `cosine` is half a cosine.
 * `constant` is diffusers' `constant_with_warmup`: its warm-up is 0 steps unless `warmup_steps` says otherwise.
 *
 * @param step from 1.
 * @param maxSteps steps of the whole run, warm-up included.
 * @example
 * learningRateAt(51, { learning_rate: 1e-3, lr_scheduler_type: 'linear', warmup_steps: 0 }, 100); // 0.0005
 */
export function learningRateAt(step: number, args: LearningRateArguments, maxSteps: number): number {
  const { learning_rate, lr_scheduler_type, warmup_steps } = args;
  const done = step - 1;
  if (done < warmup_steps) return learning_rate * (done / Math.max(1, warmup_steps));
  // Some of diffusers' formulas rise again past the last step; a schedule that has ended stays where it ended.
  const progress = Math.min(1, (done - warmup_steps) / Math.max(1, maxSteps - warmup_steps));
  switch (lr_scheduler_type) {
    case 'constant':
    case 'constant_with_warmup':
      return learning_rate;
    case 'linear':
      return learning_rate * Math.max(0, (maxSteps - done) / Math.max(1, maxSteps - warmup_steps));
    case 'cosine':
      return learning_rate * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)));
    case 'cosine_with_restarts': {
      if (progress >= 1) return 0;
      const { lr_num_cycles = 1 } = args;
      return learning_rate * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * ((lr_num_cycles * progress) % 1))));
    }
    case 'polynomial': {
      const { lr_power = 1, lr_end = 1e-7 } = args;
      return (learning_rate - lr_end) * (1 - progress) ** lr_power + lr_end;
    }
    case 'piecewise_constant': {
      const { pieces, last } = parseStepRules(args.lr_step_rules ?? '1');
      return learning_rate * (pieces.find(({ until }) => done < until)?.factor ?? last);
    }
  }
}

/**
 * diffusers' `step_rules`: '1:50,0.1:120,0.01' multiplies the learning rate by 1 in the first 50 steps, by 0.1 up to step
 * 120, and by 0.01 from then on.
 *
 * @throws {InvalidArgumentError} when the text is something else, or the steps do not rise.
 */
export function parseStepRules(rules: string) {
  const parts = rules.split(',');
  const last = factorOf(parts.at(-1) ?? '', rules);
  const pieces = parts.slice(0, -1).map((part) => {
    const [factor = '', until = '', ...more] = part.split(':');
    if (!/^\s*\d+\s*$/.test(until) || more.length > 0) throw wrongRules(rules, `'${part}' is not FACTOR:STEP`);
    return { factor: factorOf(factor, rules), until: Number(until) };
  });
  for (const [i, { until }] of pieces.entries())
    if (until <= (pieces[i - 1]?.until ?? 0)) throw wrongRules(rules, `step ${until} does not come later`);
  return { pieces, last };
}

function factorOf(text: string, rules: string): number {
  const factor = Number(text);
  if (text.trim() !== '' && Number.isFinite(factor) && factor >= 0) return factor;
  throw wrongRules(rules, `'${text}' is not a factor of at least 0`);
}

const wrongRules = (rules: string, why: string) =>
  new InvalidArgumentError(
    `lr_step_rules '${rules}': ${why}. Write factors with the steps up to which they hold, and the last factor alone: 1:50,0.1:120,0.01`,
  );

/**
 * The decay d with which a step updates the moving average of the weights, `ema = d * ema + (1 - d) * weights`, as
 * diffusers' `EMAModel.get_decay` gives it. After n earlier steps, not counting `ema_update_after_step`, it is
 * 1 - (1 + n / inv_gamma)^-power with `use_ema_warmup` (the default), and (1 + n) / (10 + n) without, but at least
 * `ema_min_decay` and at most `ema_max_decay`. Up to the first step that counts, the weights are copied.
 *
 * @param step from 1.
 * @example
 * emaDecayAt(2, { ema_inv_gamma: 1, ema_power: 0.75, ema_max_decay: 0.9999 }); // 0.4053964424986395
 */
export function emaDecayAt(step: number, args: EmaArguments): number {
  const { ema_inv_gamma, ema_power, ema_max_decay, ema_min_decay = 0, ema_update_after_step = 0 } = args;
  const { use_ema_warmup = true } = args;
  const earlier = step - 1 - ema_update_after_step;
  if (earlier <= 0) return 0;
  const decay = use_ema_warmup ? 1 - (1 + earlier / ema_inv_gamma) ** -ema_power : (1 + earlier) / (10 + earlier);
  return Math.max(Math.min(decay, ema_max_decay), ema_min_decay);
}
