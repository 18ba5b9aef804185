import { type DiffusionScheduler, schedulerFromConfig } from '../schedulers/index.ts';

/** A scheduler, or the JSON config of one. */
export type GivenScheduler = DiffusionScheduler | Readonly<Record<string, unknown>>;

/** How samples are drawn, of points and of images alike. */
export interface SamplingOptions {
  /** Steps of the reverse process, 1 to the scheduler's `num_train_timesteps`; default 1000, or fewer if T is less. */
  readonly num_inference_steps?: number | undefined;
  /** Used instead of `generate.scheduler`: a scheduler, or the JSON config of one. */
  readonly scheduler?: GivenScheduler | undefined;
  /** DDIM's eta, 0 (default, deterministic) to 1. */
  readonly eta?: number | undefined;
  /** Called with the fraction done, 0 to 1. */
  readonly on_progress?: ((fraction: number) => void) | undefined;
  /** Stops between steps; the promise rejects with `signal.reason`. */
  readonly signal?: AbortSignal | undefined;
}

/** @throws {ConfigError} when `given` is neither. */
export function asScheduler(given: GivenScheduler): DiffusionScheduler {
  return isScheduler(given) ? given : schedulerFromConfig(given);
}

/** The scheduler of one call of a pipeline, `own` where none is given, and its steps: default 1000, or fewer if T is less. */
export function samplingSchedule(
  given: Pick<SamplingOptions, 'scheduler' | 'num_inference_steps'>,
  own: DiffusionScheduler,
): { scheduler: DiffusionScheduler; num_inference_steps: number } {
  const scheduler = given.scheduler === undefined ? own : asScheduler(given.scheduler);
  const steps = given.num_inference_steps ?? Math.min(1000, scheduler.config.num_train_timesteps);
  return { scheduler, num_inference_steps: steps };
}

function isScheduler(given: GivenScheduler): given is DiffusionScheduler {
  return typeof given.step === 'function' && typeof given.setTimesteps === 'function';
}
