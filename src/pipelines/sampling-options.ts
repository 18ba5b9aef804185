import { asScheduler, type GivenScheduler } from '../schedulers/registry.ts';
import type { Scheduler } from '../schedulers/scheduler.ts';

/** How samples are drawn, of points and of images alike. */
export interface SamplingOptions {
  /** Steps of the reverse process, 1 to the scheduler's `num_train_timesteps`; default 1000, or fewer if T is less. */
  readonly num_inference_steps?: number | undefined;
  /** Used instead of `generate.scheduler`: a scheduler, its JSON config, or a registered class name. */
  readonly scheduler?: GivenScheduler | undefined;
  /** DDIM's eta, 0 (default, deterministic) to 1. */
  readonly eta?: number | undefined;
  /** Called with the fraction done, 0 to 1. */
  readonly on_progress?: ((fraction: number) => void) | undefined;
  /** Stops between steps; the promise rejects with `signal.reason`. */
  readonly signal?: AbortSignal | undefined;
}

/** The scheduler of one call of a pipeline, `own` where none is given, and its steps: default 1000, or fewer if T is less. */
export function samplingSchedule(
  given: Pick<SamplingOptions, 'scheduler' | 'num_inference_steps'>,
  own: Scheduler,
): { scheduler: Scheduler; num_inference_steps: number } {
  const scheduler = given.scheduler === undefined ? own : asScheduler(given.scheduler, own);
  const steps = given.num_inference_steps ?? Math.min(1000, scheduler.config.num_train_timesteps);
  return { scheduler, num_inference_steps: steps };
}
