import { InvalidArgumentError } from '../errors.ts';

/** The settings of diffusers' `EMAModel`, with its defaults. */
export interface EmaDecayOptions {
  /** Whether the decay follows `1 - (1 + step / inv_gamma) ** -power` instead of `(1 + step) / (10 + step)`. */
  readonly use_ema_warmup?: boolean | undefined;
  /** > 0, default 1. Larger values make the warm-up slower. */
  readonly inv_gamma?: number | undefined;
  /** > 0, default 2/3 (0.999 after 31,600 steps). 3/4 suits shorter runs (0.999 after 10,000 steps). */
  readonly power?: number | undefined;
  /** In [0, 1], default 0. */
  readonly min_decay?: number | undefined;
  /** In [0, 1], default 0.9999. What `EMAModel` calls `decay`. */
  readonly max_decay?: number | undefined;
  /** Steps during which the average only copies the weights, default 0. */
  readonly update_after_step?: number | undefined;
}

/**
 * The decay d with which a step updates the moving average of the weights, `ema = d * ema + (1 - d) * weights`, as
 * diffusers' `EMAModel.get_decay` gives it.
 *
 * @param optimizationStep how many optimizer steps are done: 1 after the first, whose decay is 0 (a copy).
 * @throws InvalidArgumentError if a setting is out of its range.
 * @example emaDecayAt(2, { use_ema_warmup: true, power: 0.75 }); // 0.4053964424986395
 */
export function emaDecayAt(optimizationStep: number, options: EmaDecayOptions = {}): number {
  const {
    use_ema_warmup = false,
    inv_gamma = 1,
    power = 2 / 3,
    min_decay = 0,
    max_decay = 0.9999,
    update_after_step = 0,
  } = options;
  checkPositive({ inv_gamma, power });
  checkCounts({ optimizationStep, update_after_step });
  checkDecays(min_decay, max_decay);
  const step = optimizationStep - update_after_step - 1;
  if (step <= 0) return 0;
  const decay = use_ema_warmup ? 1 - (1 + step / inv_gamma) ** -power : (1 + step) / (10 + step);
  return Math.max(min_decay, Math.min(decay, max_decay));
}

function checkPositive(values: Record<string, number>): void {
  for (const [name, value] of Object.entries(values)) {
    if (!Number.isFinite(value) || value <= 0) {
      throw new InvalidArgumentError(`${name} must be finite and > 0, not ${value}.`);
    }
  }
}

function checkCounts(values: Record<string, number>): void {
  for (const [name, value] of Object.entries(values)) {
    if (!Number.isSafeInteger(value) || value < 0) {
      throw new InvalidArgumentError(`${name} must be an integer >= 0, not ${value}.`);
    }
  }
}

function checkDecays(min_decay: number, max_decay: number): void {
  if (!(min_decay >= 0 && min_decay <= max_decay && max_decay <= 1)) {
    throw new InvalidArgumentError(
      `EMA decays must satisfy 0 <= min_decay <= max_decay <= 1, not ${min_decay} and ${max_decay}.`,
    );
  }
}
