import type { DiffusionLoss } from '../../losses/index.ts';
import type { DiffusionModel } from '../../models/model.ts';
import type { DDPMScheduler } from '../../schedulers/ddpm.ts';
import { emaDecayAt } from '../ema-decay.ts';
import { learningRateAt } from '../learning-rate.ts';
import type { TrainingGraphSettings } from '../step/training-graph.ts';
import type { ResolvedTrainingArguments } from '../training-arguments.ts';
import type { StepSchedules } from './training-engine.ts';

/** What a step computes, from what a `Trainer` was given. */
export function stepSettings(
  trained: {
    readonly model: DiffusionModel;
    readonly loss: DiffusionLoss;
    readonly noise_scheduler: DDPMScheduler;
  },
  args: ResolvedTrainingArguments,
): Omit<TrainingGraphSettings, 'mode' | 'maxBucketElements'> {
  const { model, loss, noise_scheduler } = trained;
  return {
    model,
    loss,
    predictionType: noise_scheduler.config.prediction_type,
    betas: noise_scheduler.betas,
    alphasCumprod: noise_scheduler.alphasCumprod,
    batchSize: args.per_device_train_batch_size,
    adam: {
      beta1: args.adam_beta1,
      beta2: args.adam_beta2,
      epsilon: args.adam_epsilon,
      weight_decay: args.weight_decay,
    },
    maxGradNorm: args.max_grad_norm,
    ema: args.use_ema,
    gradientCheckpointing: args.gradient_checkpointing,
  };
}

/** The learning rate and the decay of the moving average of each step of a run. */
export function stepSchedules(args: ResolvedTrainingArguments, maxSteps: number): StepSchedules {
  return {
    learningRate: (step) => learningRateAt(step - 1, { ...args, max_steps: maxSteps }),
    emaDecay: (step) =>
      emaDecayAt(step, {
        use_ema_warmup: true,
        inv_gamma: args.ema_inv_gamma,
        power: args.ema_power,
        max_decay: args.ema_max_decay,
      }),
  };
}
