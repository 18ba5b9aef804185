import { InvalidArgumentError } from '../errors.ts';

/** Where the timesteps of a shortened reverse process lie; Lin et al. 2023, table 2. */
export const TIMESTEP_SPACINGS = ['leading', 'trailing', 'linspace'] as const;
export type TimestepSpacing = (typeof TIMESTEP_SPACINGS)[number];

export interface SpacingOptions {
  readonly num_train_timesteps: number;
  readonly timestep_spacing: TimestepSpacing;
  readonly steps_offset: number;
}

/**
 * The timesteps of a reverse process of `count` steps, falling.
 *
 * @throws {InvalidArgumentError} when `count` is not a whole number from 1 to `num_train_timesteps`.
 */
export function spacedTimesteps(
  count: number,
  { num_train_timesteps: total, timestep_spacing, steps_offset }: SpacingOptions,
): number[] {
  if (!Number.isInteger(count) || count < 1 || count > total) {
    throw new InvalidArgumentError(
      `num_inference_steps is ${count}, but must be a whole number from 1 to num_train_timesteps (${total})`,
    );
  }
  const indices = Array.from({ length: count }, (_, i) => i);
  switch (timestep_spacing) {
    case 'linspace':
      return indices.map((i) => roundHalfToEven(count === 1 ? 0 : (i * (total - 1)) / (count - 1))).reverse();
    case 'leading':
      return indices.map((i) => roundHalfToEven(i * Math.floor(total / count)) + steps_offset).reverse();
    case 'trailing':
      return indices.map((i) => roundHalfToEven(total - (i * total) / count) - 1);
  }
}

/** @throws {InvalidArgumentError} when `timesteps` are not falling whole numbers in [0, num_train_timesteps). */
export function checkTimesteps(timesteps: readonly number[], total: number): number[] {
  timesteps.forEach((timestep, i) => {
    const previous = timesteps[i - 1];
    const falls = previous === undefined || timestep < previous;
    if (Number.isInteger(timestep) && timestep >= 0 && timestep < total && falls) return;
    throw new InvalidArgumentError(
      `timesteps[${i}] is ${timestep}: they must be whole numbers in [0, ${total}), each smaller than the one before`,
    );
  });
  if (timesteps.length === 0) throw new InvalidArgumentError('timesteps is empty');
  return [...timesteps];
}

/** NumPy's rounding. */
function roundHalfToEven(x: number): number {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}
