// The standard deviations that a solver visits: sigma = sqrt((1 - abar) / abar), so that x_t / sqrt(abar_t) = x_0 + sigma eps.

import { ConfigError, InvalidArgumentError } from '../../errors.ts';
import type { Fields } from '../../options.ts';
import * as z from '../../zod.ts';
import { roundHalfToEven, type SchedulerConfig } from '../schedule.ts';

/** How the standard deviations of the steps are spaced, with the names and defaults of diffusers. */
export interface SigmaOptions {
  /** Spaces sigma^(1/7) evenly (Karras et al. 2022, eq. 5); default false. */
  readonly use_karras_sigmas?: boolean | undefined;
  /** Spaces log sigma evenly; default false. */
  readonly use_exponential_sigmas?: boolean | undefined;
}

/** Options of diffusers that are off by default, and cannot be turned on here. */
interface NotBuilt {
  readonly use_beta_sigmas?: false | undefined;
}

export const sigmaShape = {
  use_karras_sigmas: z._default(z.boolean(), false),
  use_exponential_sigmas: z._default(z.boolean(), false),
  use_beta_sigmas: z._default(z.literal(false), false),
} satisfies Fields<SigmaOptions & NotBuilt>;

/** The lowest abar of a schedule that was rescaled to zero terminal SNR, as in diffusers: its sigma is finite. */
export const LOWEST_ALPHA_BAR = 2 ** -24;

/** @throws {ConfigError} when two spacings are asked for. */
export function checkOneSpacing(className: string, config: object): void {
  const spacings = ['use_karras_sigmas', 'use_exponential_sigmas', 'use_lu_lambdas'];
  const given = spacings.filter((name) => Reflect.get(config, name));
  if (given.length > 1) throw new ConfigError(`wrong ${className} config: ${given.join(' and ')} exclude each other`);
}

/** sigma of each training timestep, rising. */
export function trainingSigmas(alphasCumprod: Float32Array): number[] {
  return Array.from(alphasCumprod, (alphaBar) => Math.sqrt((1 - alphaBar) / alphaBar));
}

/** Between two whole timesteps, on a line. */
export function sigmaAt(sigmas: readonly number[], timestep: number): number {
  const [low, high] = [Math.floor(timestep), Math.ceil(timestep)];
  const below = sigmas[low] as number;
  return below + (timestep - low) * ((sigmas[high] as number) - below);
}

/** The timestep of a sigma, a fraction: log sigma is on a line between two whole ones. */
export function timestepOf(sigmas: readonly number[], sigma: number): number {
  const last = sigmas.length - 1;
  const above = sigmas.findIndex((each) => each > sigma);
  const low = Math.min(Math.max((above < 0 ? last : above) - 1, 0), Math.max(last - 1, 0));
  const [start, end] = [Math.log(sigmas[low] as number), Math.log((sigmas[low + 1] ?? sigmas[low]) as number)];
  const weight = end === start ? 0 : (Math.log(Math.max(sigma, 1e-10)) - start) / (end - start);
  return low + Math.min(Math.max(weight, 0), 1);
}

/** `count` values from `largest` to `smallest`, of which the roots of the order rho are evenly spaced. */
export function karrasSigmas(largest: number, smallest: number, count: number): number[] {
  const rho = 7;
  return evenly(largest ** (1 / rho), smallest ** (1 / rho), count).map((root) => root ** rho);
}

/** `count` values from `largest` to `smallest`, whose logarithms are evenly spaced. */
export function exponentialSigmas(largest: number, smallest: number, count: number): number[] {
  return evenly(Math.log(largest), Math.log(smallest), count).map(Math.exp);
}

function evenly(first: number, last: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => (count === 1 ? first : first + (i / (count - 1)) * (last - first)));
}

type Spacing = Pick<SchedulerConfig, 'num_train_timesteps' | 'timestep_spacing' | 'steps_offset'>;

/**
 * The timesteps of the solvers in log-SNR: with 'linspace' and 'leading' one more is spaced than steps are taken, and the
 * last of them, at timestep 0, is left out.
 *
 * @param last the largest timestep that is used. Where it is less than T - 1, 'trailing' gives fewer steps.
 */
export function timestepsBeforeZero(
  count: number,
  { num_train_timesteps, timestep_spacing, steps_offset }: Spacing,
  last: number,
): number[] {
  const falling = Array.from({ length: count }, (_, i) => count - i);
  switch (timestep_spacing) {
    case 'linspace':
      return falling.map((i) => roundHalfToEven((i * last) / count));
    case 'leading':
      return falling.map((i) => i * Math.floor((last + 1) / (count + 1)) + steps_offset);
    case 'trailing':
      return falling
        .map((_, i) => roundHalfToEven(last + 1 - (i * num_train_timesteps) / count) - 1)
        .filter((timestep) => timestep >= 0);
  }
}

/** The timesteps of the solvers in sigma, which may be fractions: from T - 1 to 0 with 'linspace'. */
export function timestepsToZero(
  count: number,
  { num_train_timesteps: T, timestep_spacing, steps_offset }: Spacing,
): number[] {
  const indices = Array.from({ length: count }, (_, i) => i);
  switch (timestep_spacing) {
    case 'linspace':
      // float32, as in diffusers.
      return indices.map((i) => (count === 1 ? 0 : Math.fround((i * (T - 1)) / (count - 1)))).reverse();
    case 'leading':
      return indices.map((i) => i * Math.floor(T / count) + steps_offset).reverse();
    case 'trailing':
      return indices.map((i) => roundHalfToEven(T - (i * T) / count) - 1);
  }
}

/**
 * @param most the largest number of steps that the solver can take.
 * @throws {InvalidArgumentError} unless `count` is a whole number from `least` to `most`.
 */
export function checkStepCount(className: string, count: number, least: number, most: number): void {
  if (Number.isInteger(count) && count >= least && count <= most) return;
  throw new InvalidArgumentError(
    `num_inference_steps is ${String(count)}, but ${className} takes a whole number of steps from ${least} to ${most}`,
  );
}
