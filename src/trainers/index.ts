export { Trainer, type TrainerOptions, type TrainOptions, type TrainOutput } from './trainer.ts';
export type { StepMetrics, TrainerCallback, TrainerState } from './trainer-callback.ts';
export type { TrainingArguments } from './training-arguments.ts';
