export { type DDIMOptions, DDIMScheduler } from './ddim.ts';
export { type DDPMOptions, DDPMScheduler } from './ddpm.ts';
export { type GivenScheduler, type SchedulerClass, schedulerFromConfig, schedulers } from './registry.ts';
export type {
  BetaSchedule,
  PredictionType,
  SchedulerConfig,
  SchedulerOptions,
  TimestepSpacing,
} from './schedule.ts';
export { Scheduler } from './scheduler.ts';
export type { ClippingOptions, StepCoefficients, StepOptions, StepOutput } from './steps.ts';
