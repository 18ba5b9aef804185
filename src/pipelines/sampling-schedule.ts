import { type DiffusionScheduler, schedulerFromConfig } from '../schedulers/index.ts';

/** A scheduler, or the JSON config of one. */
export type GivenScheduler = DiffusionScheduler | Readonly<Record<string, unknown>>;

/** @throws {ConfigError} when `given` is neither. */
export function asScheduler(given: GivenScheduler): DiffusionScheduler {
  return isScheduler(given) ? given : schedulerFromConfig(given);
}

/** The scheduler of one call of a pipeline, `own` where none is given, and its steps: default 1000, or fewer if T is less. */
export function samplingSchedule(
  given: { readonly scheduler?: GivenScheduler; readonly num_inference_steps?: number },
  own: DiffusionScheduler,
): { scheduler: DiffusionScheduler; num_inference_steps: number } {
  const scheduler = given.scheduler === undefined ? own : asScheduler(given.scheduler);
  const steps = given.num_inference_steps ?? Math.min(1000, scheduler.config.num_train_timesteps);
  return { scheduler, num_inference_steps: steps };
}

function isScheduler(given: GivenScheduler): given is DiffusionScheduler {
  return typeof given.step === 'function' && typeof given.setTimesteps === 'function';
}
