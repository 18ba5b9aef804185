// The noise schedule: the options that all schedulers share, the variances of the forward process, and the timesteps
// that a reverse process visits.

import { ConfigError, InvalidArgumentError } from '../errors.ts';
import { type Complete, type Fields, parseOptions } from '../options.ts';
import * as z from '../zod.ts';

const BETA_SCHEDULES = ['linear', 'scaled_linear', 'squaredcos_cap_v2', 'sigmoid'] as const;
/** How the variances of the forward process grow with t; diffusers' names. */
export type BetaSchedule = (typeof BETA_SCHEDULES)[number];

const TIMESTEP_SPACINGS = ['leading', 'trailing', 'linspace'] as const;
/** Where the timesteps of a shortened reverse process lie; Lin et al. 2023, table 2. */
export type TimestepSpacing = (typeof TIMESTEP_SPACINGS)[number];

const PREDICTION_TYPES = ['epsilon', 'sample', 'v_prediction'] as const;
/** What the model predicts, by diffusers' names: the noise, x_0, or the velocity (Salimans & Ho 2022). */
export type PredictionType = (typeof PREDICTION_TYPES)[number];

/** Options of every scheduler: the noise schedule and what the model predicts, with diffusers' names and defaults. */
export interface SchedulerOptions {
  /** T, the number of timesteps of the forward process, 1 to 1,000,000; default 1000. */
  readonly num_train_timesteps?: number | undefined;
  /** The variance of the first step of the forward process, in [0, 1); default 0.0001. */
  readonly beta_start?: number | undefined;
  /** The variance of the last step, in [0, 1); default 0.02. */
  readonly beta_end?: number | undefined;
  /** How beta grows between the two; default 'linear'. 'squaredcos_cap_v2' is Nichol & Dhariwal's cosine schedule. */
  readonly beta_schedule?: BetaSchedule | undefined;
  /** The T betas themselves, each in [0, 1], in place of a formula; default null. */
  readonly trained_betas?: readonly number[] | null | undefined;
  /** What the model predicts: the noise ('epsilon', default), the clean sample ('sample') or the velocity ('v_prediction'). */
  readonly prediction_type?: PredictionType | undefined;
  /** Where the timesteps of a shortened reverse process lie; default 'leading'. */
  readonly timestep_spacing?: TimestepSpacing | undefined;
  /**
   * Added to every timestep of the spacing 'leading', 0 or more; default 0. With all T timesteps it must be 0: the first
   * would lie beyond the last that the model knows.
   */
  readonly steps_offset?: number | undefined;
  /** Whether betas are rescaled so that nothing of the signal is left at T (Lin et al. 2023); default false. */
  readonly rescale_betas_zero_snr?: boolean | undefined;
}

/** The options that all schedulers share, with their defaults. */
export type SchedulerConfig = Complete<SchedulerOptions>;

const beta = z.number().check(z.gte(0), z.lt(1));

export const scheduleShape = {
  num_train_timesteps: z._default(z.int().check(z.gte(1), z.lte(1_000_000)), 1000),
  beta_start: z._default(beta, 0.0001),
  beta_end: z._default(beta, 0.02),
  beta_schedule: z._default(z.enum(BETA_SCHEDULES), 'linear'),
  trained_betas: z._default(z.nullable(z.array(z.number().check(z.gte(0), z.lte(1)))), null),
  prediction_type: z._default(z.enum(PREDICTION_TYPES), 'epsilon'),
  timestep_spacing: z._default(z.enum(TIMESTEP_SPACINGS), 'leading'),
  steps_offset: z._default(z.int().check(z.gte(0)), 0),
  rescale_betas_zero_snr: z._default(z.boolean(), false),
} satisfies Fields<SchedulerOptions>;

/**
 * Checks options and fills in defaults. Keys that the shape does not have are left out, as diffusers does; null, which
 * other schedulers save for what they do not use, is the default.
 *
 * @throws {ConfigError} that lists every wrong value.
 */
export function parseSchedulerConfig<Shape extends typeof scheduleShape>(
  className: string,
  shape: Shape,
  options: unknown,
): z.output<z.ZodMiniObject<Shape>> {
  const given =
    typeof options === 'object' && options !== null && !Array.isArray(options)
      ? Object.fromEntries(Object.entries(options).filter(([, value]) => value !== null))
      : options;
  const config = parseOptions(z.object(shape), given, `${className} config`, ConfigError);
  const { trained_betas, num_train_timesteps } = config as SchedulerConfig;
  if (trained_betas && trained_betas.length !== num_train_timesteps) {
    throw new ConfigError(
      `wrong ${className} config: trained_betas has ${trained_betas.length} values, but num_train_timesteps is ${num_train_timesteps}`,
    );
  }
  return config;
}

const { fround } = Math;

/** The betas in float32, with the roundings of diffusers' torch code. */
export function makeBetas(options: SchedulerConfig): Float32Array {
  const { beta_start, beta_end, num_train_timesteps: count } = options;
  if (options.trained_betas) return Float32Array.from(options.trained_betas);
  switch (options.beta_schedule) {
    case 'linear':
      return linspace(beta_start, beta_end, count);
    case 'scaled_linear':
      return linspace(Math.sqrt(beta_start), Math.sqrt(beta_end), count).map((root) => root * root);
    case 'squaredcos_cap_v2':
      return squaredCosine(count);
    case 'sigmoid':
      return linspace(-6, 6, count).map(
        (x) => fround(1 / (1 + Math.exp(-x))) * fround(beta_end - beta_start) + beta_start,
      );
  }
}

/** Nichol & Dhariwal 2021, eq. 17: abar(t) = cos^2((t + 0.008) / 1.008 pi/2), beta capped at 0.999. */
function squaredCosine(count: number): Float32Array {
  const alphaBar = (t: number) => Math.cos((((t + 0.008) / 1.008) * Math.PI) / 2) ** 2;
  return Float32Array.from({ length: count }, (_, i) =>
    Math.min(1 - alphaBar((i + 1) / count) / alphaBar(i / count), 0.999),
  );
}

/** torch.linspace in float32: from both ends towards the middle. */
function linspace(start: number, end: number, count: number): Float32Array {
  const step = count > 1 ? fround(fround(fround(end) - fround(start)) / (count - 1)) : 0;
  return Float32Array.from({ length: count }, (_, i) =>
    i < count / 2 ? fround(start) + fround(step * i) : fround(end) - fround(step * (count - i - 1)),
  );
}

/** Cumulative products of 1 - beta; accumulated in float64 and stored in float32, as torch.cumprod does. */
export function cumulativeAlphas(betas: Float32Array): Float32Array {
  let product = 1;
  return betas.map((beta) => {
    product *= fround(1 - beta);
    return product;
  });
}

/** abar at a timestep; between two whole ones, on a line. */
export function alphaBarBetween(alphasCumprod: Float32Array, timestep: number): number {
  const [below, above] = [alphasCumprod[Math.floor(timestep)], alphasCumprod[Math.ceil(timestep)]];
  const low = below ?? above ?? 1;
  return low + (timestep - Math.floor(timestep)) * ((above ?? low) - low);
}

/**
 * Rescales betas so that the last timestep has no signal left: Lin et al. 2023, "Common Diffusion Noise Schedules and
 * Sample Steps are Flawed", algorithm 1.
 */
export function rescaleZeroTerminalSnr(betas: Float32Array): Float32Array {
  const roots = cumulativeAlphas(betas).map(Math.sqrt);
  const first = roots[0] ?? 1;
  const last = roots.at(-1) ?? 0;
  const scale = fround(first / fround(first - last));
  const bars = roots.map((root) => fround(fround(root - last) * scale) ** 2);
  return bars.map((bar, i) => 1 - (i === 0 ? bar : fround(bar / (bars[i - 1] as number))));
}

/**
 * The timesteps of a reverse process of `count` steps, falling.
 *
 * @throws {InvalidArgumentError} when `count` is not a whole number from 1 to `num_train_timesteps`, or `steps_offset`
 * leads beyond it.
 */
export function spacedTimesteps(
  count: number,
  { num_train_timesteps: total, timestep_spacing, steps_offset }: SchedulerConfig,
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
    case 'leading': {
      const timesteps = indices.map((i) => i * Math.floor(total / count) + steps_offset).reverse();
      if ((timesteps[0] ?? 0) < total) return timesteps;
      throw new InvalidArgumentError(
        `steps_offset ${steps_offset} moves the first of ${count} timesteps to ${timesteps[0]}, but the last that the model knows is ${total - 1}: give a smaller num_inference_steps, or a scheduler with steps_offset 0`,
      );
    }
    case 'trailing':
      return indices.map((i) => roundHalfToEven(total - (i * total) / count) - 1);
  }
}

/** @throws {InvalidArgumentError} unless `timesteps` are falling whole numbers in [0, num_train_timesteps). */
export function checkTimesteps(timesteps: readonly number[], total: number): number[] {
  if (!Array.isArray(timesteps)) throw new InvalidArgumentError('timesteps must be a list of numbers');
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
export function roundHalfToEven(x: number): number {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}
