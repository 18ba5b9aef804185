export type { Communicator } from '../distributed/communicator.ts';
export {
  AutoencoderTrainer,
  type AutoencoderTrainerOptions,
  type SaveTrainedOptions,
} from './autoencoder-trainer.ts';
export type { TrainOptions } from './base-trainer.ts';
export type { SettingChange } from './checkpoint/run-identity.ts';
export type { LatentSetOptions } from './data/latents.ts';
export type { BatchEstimate, EstimateOptions, TrainingEstimate } from './estimate/estimate.ts';
export type { TrainingChanges } from './live-settings.ts';
export type { LoggedRun, RunLogger, RunLoggers, RunOutcome } from './logging/run-logger.ts';
export { measureReconstruction, type Reconstruction } from './reconstruction.ts';
export type { SaveFormat } from './save-pipeline.ts';
export { Trainer } from './trainer.ts';
export type { StepMetrics, TrainerCallback, TrainerRun, TrainerState } from './trainer-callback.ts';
export type { TrainerOptions } from './trainer-options.ts';
export type { TrainingArguments } from './training-arguments.ts';
export type { TrainOutput } from './training-loop.ts';
