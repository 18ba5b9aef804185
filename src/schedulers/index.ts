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
export { type DDIMInverseOptions, DDIMInverseScheduler } from './solvers/ddim-inverse.ts';
export { type DEISMultistepOptions, DEISMultistepScheduler } from './solvers/deis.ts';
export {
  type DPMSolverMultistepOptions,
  DPMSolverMultistepScheduler,
  type DPMSolverSinglestepOptions,
  DPMSolverSinglestepScheduler,
} from './solvers/dpm-solver.ts';
export {
  type EulerAncestralDiscreteOptions,
  EulerAncestralDiscreteScheduler,
  type EulerDiscreteOptions,
  EulerDiscreteScheduler,
} from './solvers/euler.ts';
export { type HeunDiscreteOptions, HeunDiscreteScheduler } from './solvers/heun.ts';
export { type LMSDiscreteOptions, LMSDiscreteScheduler } from './solvers/lms.ts';
export { type PNDMOptions, PNDMScheduler } from './solvers/pndm.ts';
export { type UniPCMultistepOptions, UniPCMultistepScheduler } from './solvers/unipc.ts';
export type { ClippingOptions, NoiseLevel, StepCoefficients, StepOptions, StepOutput } from './steps.ts';
