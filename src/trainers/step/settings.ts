import { type AdamSettings, adamScalars, type StepScalars } from '../../graph/optimizer.ts';
import type { DiffusionLoss, PredictionType } from '../../losses/index.ts';
import type { DiffusionModel } from '../../models/model.ts';
import type { Scheduler } from '../../schedulers/scheduler.ts';
import { emaDecayAt, learningRateAt } from '../schedules.ts';
import type { ResolvedTrainingArguments } from '../training-arguments.ts';

/** What a step computes. */
export interface StepSettings {
  readonly model: DiffusionModel;
  readonly loss: DiffusionLoss;
  readonly predictionType: PredictionType;
  /** The variances of the forward process, one for each training timestep. */
  readonly betas: Float32Array;
  /** Cumulative products of 1 - beta, one for each training timestep. */
  readonly alphasCumprod: Float32Array;
  /** Samples of one batch. */
  readonly batchSize: number;
  /** Batches whose mean gradient makes one step. Each has its own loss, and so its own isotropy penalty. */
  readonly accumulationSteps: number;
  readonly adam: AdamSettings;
  /** Global gradient norm to clip at; 0 turns clipping off. */
  readonly maxGradNorm: number;
  /** Whether a moving average of the parameters is kept. */
  readonly ema: boolean;
  /** Whether the model's checkpoints are computed again in the backward pass, which saves memory. */
  readonly gradientCheckpointing: boolean;
}

/** The scalars of each step, counted from 1. */
export type StepSchedule = (step: number) => StepScalars<number>;

/** What a step computes, from what a `Trainer` was given. */
export function stepSettings(
  { model, loss, noise_scheduler }: { model: DiffusionModel; loss: DiffusionLoss; noise_scheduler: Scheduler },
  args: ResolvedTrainingArguments,
): StepSettings {
  return {
    model,
    loss,
    predictionType: noise_scheduler.config.prediction_type,
    betas: noise_scheduler.betas,
    alphasCumprod: noise_scheduler.alphasCumprod,
    batchSize: args.per_device_train_batch_size,
    accumulationSteps: args.gradient_accumulation_steps,
    adam: adamSettings(args),
    maxGradNorm: args.max_grad_norm,
    ema: args.use_ema,
    gradientCheckpointing: args.gradient_checkpointing,
  };
}

/** The learning rate, its corrections and the rate of the moving average at each step of a run of `maxSteps`. */
export function stepSchedule(args: ResolvedTrainingArguments, maxSteps: number): StepSchedule {
  const adam = adamSettings(args);
  return (step) => ({
    ...adamScalars(step, learningRateAt(step, args, maxSteps), adam),
    emaRate: 1 - emaDecayAt(step, args),
  });
}

function adamSettings(args: ResolvedTrainingArguments): AdamSettings {
  const { adam_beta1: beta1, adam_beta2: beta2, adam_epsilon: epsilon, weight_decay } = args;
  return { beta1, beta2, epsilon, weight_decay };
}
