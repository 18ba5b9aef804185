import { InvalidArgumentError } from '../errors.ts';
import type { TrainedIsotropy } from '../losses/minimiser.ts';
import { type Fields, functionOption, numberOption, numberOrNumbersOption, signalOption } from '../options.ts';
import type { SampleSeed } from '../random/sample-streams.ts';
import { asScheduler, type GivenScheduler } from '../schedulers/registry.ts';
import type { Scheduler } from '../schedulers/scheduler.ts';
import * as z from '../zod.ts';
import type { Edit } from './editing/edit.ts';
import type { NoiseCall } from './editing/latents.ts';
import { type NoiseScale, type NoiseScaleOptions, noiseScaleShape, readNoiseScale } from './noise-scale.ts';

/**
 * Called after a model evaluation and its step, with its index from 0, its timestep and the sample [batch_size, ...] in
 * model units. May return another sample of the same size to go on with.
 */
export type StepCallback = (
  step: number,
  timestep: number,
  state: { sample: Float32Array },
) => StepCallbackResult | Promise<StepCallbackResult>;
/** What a `StepCallback` may return: nothing, or the sample to go on with. */
export type StepCallbackResult =
  | {
      /** Of the size of the present sample; default: it stays. */
      sample?: Float32Array | undefined;
    }
  | undefined
  // biome-ignore lint/suspicious/noConfusingVoidType: a callback may return nothing
  | void;

/** How samples are drawn, of points and of images alike. */
export interface SamplingOptions extends NoiseScaleOptions {
  /**
   * Steps of the reverse process, 1 to the scheduler's `num_train_timesteps`; default the scheduler's `usualSteps`: 1000 for
   * DDPM, 50 for DDIM and PNDM, 20 for the other solvers, or fewer if T is less.
   */
  readonly num_inference_steps?: number | undefined;
  /**
   * A scheduler, its JSON config, or the class name of a registered one, which gets the model's noise schedule. Default
   * `generate.scheduler`.
   */
  readonly scheduler?: GivenScheduler | undefined;
  /**
   * An integer >= 0, default 0, or a list with one for each sample. Sample i depends on the seed and on i alone: it is
   * the same with every `batch_size`. With a list, sample i is what `seed: list[i]` with a `batch_size` of 1 draws.
   */
  readonly seed?: SampleSeed | undefined;
  /** DDIM's eta, from 0 (default, deterministic) to 1 (as noisy as DDPM). */
  readonly eta?: number | undefined;
  /** DDIM: whether epsilon is derived anew from the clipped prediction; default false. */
  readonly use_clipped_model_output?: boolean | undefined;
  /** Called after every step with the samples of the whole batch; may return `{ sample }` to go on with. Default none. */
  readonly callback_on_step_end?: StepCallback | undefined;
  /** Called with the fraction done, 0 to 1. Default none. */
  readonly on_progress?: ((fraction: number) => void) | undefined;
  /** Stops between steps; the promise rejects with `signal.reason`. Default none. */
  readonly signal?: AbortSignal | undefined;
}

const isObject = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value);

export const schedulerOption = z.custom<GivenScheduler>(
  (value) => isObject(value) || typeof value === 'string',
  'must be a scheduler, its JSON config, or the class name of a registered one',
);

/** The types alone; ranges are checked with the number of samples at hand. */
export const samplingShape = {
  ...noiseScaleShape,
  num_inference_steps: z.optional(numberOption),
  scheduler: z.optional(schedulerOption),
  seed: z.optional(numberOrNumbersOption),
  eta: z.optional(numberOption),
  use_clipped_model_output: z.optional(z.boolean()),
  callback_on_step_end: z.optional(functionOption<StepCallback>()),
  on_progress: z.optional(functionOption<(fraction: number) => void>()),
  signal: z.optional(signalOption),
} satisfies Fields<SamplingOptions>;

/** What one call draws with. It shares nothing with the caller's objects that could change while the call runs. */
export interface SamplingCall extends NoiseCall {
  /** A copy of the caller's; every run makes a further one. */
  readonly scheduler: Scheduler;
  readonly num_inference_steps: number;
  readonly eta: number;
  readonly use_clipped_model_output: boolean;
  readonly noiseScale: NoiseScale | undefined;
  readonly edit?: Edit | undefined;
  readonly callback: StepCallback | undefined;
  readonly onProgress: ((fraction: number) => void) | undefined;
  readonly signal: AbortSignal | undefined;
}

/**
 * Reads the options of a call for `count` samples, all at once.
 *
 * @param own the pipeline's scheduler and what is known of its model's isotropy.
 * @param samples what the samples are, for errors.
 * @throws {InvalidArgumentError} when an option is out of range. @throws {ConfigError} for a wrong scheduler config.
 */
export function readSamplingOptions(
  options: SamplingOptions,
  own: { readonly scheduler: Scheduler; readonly isotropy: TrainedIsotropy | undefined },
  count: number,
  samples: 'point' | 'image',
): SamplingCall {
  const { seed = 0, eta = 0, use_clipped_model_output = false } = options;
  if (!(eta >= 0 && eta <= 1)) throw new InvalidArgumentError(`eta is ${eta}, but must be in [0, 1]`);
  if (typeof seed !== 'number' && seed.length !== count)
    throw new InvalidArgumentError(
      `seed is a list of ${seed.length}, but ${count} ${samples}s were asked for: give one seed, or one for each ${samples}`,
    );
  const wrongSeed = (typeof seed === 'number' ? [seed] : seed).find((one) => !Number.isSafeInteger(one) || one < 0);
  if (wrongSeed !== undefined) throw new InvalidArgumentError(`seed is ${wrongSeed}, but must be an integer >= 0`);
  const given = options.scheduler === undefined ? own.scheduler : asScheduler(options.scheduler, own.scheduler);
  const num_inference_steps = options.num_inference_steps ?? given.usualSteps;
  return {
    scheduler: startedScheduler({ scheduler: given, num_inference_steps }),
    num_inference_steps,
    seed: typeof seed === 'number' ? seed : [...seed],
    eta,
    use_clipped_model_output,
    noiseScale: readNoiseScale(options, own.isotropy),
    callback: options.callback_on_step_end,
    onProgress: options.on_progress,
    signal: options.signal,
  };
}

/**
 * A copy of a scheduler with its timesteps set: a run has a history of its own.
 *
 * @throws {InvalidArgumentError} when there are no timesteps, or one is not in [0, T), or `init_noise_sigma` is not
 * finite.
 */
export function startedScheduler({
  scheduler,
  num_inference_steps,
}: Pick<SamplingCall, 'scheduler' | 'num_inference_steps'>): Scheduler {
  const copy = scheduler.clone();
  copy.setTimesteps(num_inference_steps);
  const { className, timesteps, init_noise_sigma, config } = copy;
  const total = config.num_train_timesteps;
  const wrong = timesteps.find((timestep) => !(timestep >= 0 && timestep < total));
  if (wrong !== undefined || timesteps.length === 0)
    throw new InvalidArgumentError(
      `${className} has ${wrong === undefined ? 'no timesteps' : `the timestep ${wrong}, which is not in [0, ${total})`} for num_inference_steps ${num_inference_steps} with timestep_spacing '${config.timestep_spacing}' and steps_offset ${config.steps_offset}`,
    );
  if (!Number.isFinite(init_noise_sigma))
    throw new InvalidArgumentError(`${className} has the init_noise_sigma ${init_noise_sigma}, which is not finite`);
  return copy;
}

/** @throws {InvalidArgumentError} unless `count` is an integer from 1 to 2^28. */
export function checkCount(what: string, count: number): void {
  if (Number.isInteger(count) && count >= 1 && count <= 2 ** 28) return;
  throw new InvalidArgumentError(`${what} is ${count}, but must be an integer from 1 to 2^28`);
}
