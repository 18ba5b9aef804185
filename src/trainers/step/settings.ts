import { type OptimizerSettings, optimizerScalars, type StepScalars } from '../../graph/optimizer.ts';
import { optimizerSettings } from '../optimizers.ts';
import { emaDecayAt, learningRateAt } from '../schedules.ts';
import type { ResolvedTrainingArguments } from '../training-arguments.ts';
import { DiffusionObjective, type DiffusionParts } from './diffusion-objective.ts';
import type { Objective } from './objective.ts';

/** What a step computes. */
export interface StepSettings<Minimised extends Objective = Objective> {
  readonly objective: Minimised;
  /** Samples of one batch. */
  readonly batchSize: number;
  /** Batches of a step that this process computes. */
  readonly accumulationSteps: number;
  /** Batches whose mean gradient makes one step: those of all processes. */
  readonly batchesPerStep: number;
  /** Whether a loss is told the means over all batches of the step; see `LossInputs.overStep`. */
  readonly overStep: boolean;
  readonly optimizer: OptimizerSettings;
  /** Global gradient norm to clip at; 0 turns clipping off. */
  readonly maxGradNorm: number;
  /** Whether a moving average of the parameters is kept. */
  readonly ema: boolean;
  /** Whether the model's checkpoints are computed again in the backward pass, which saves memory. */
  readonly gradientCheckpointing: boolean;
  /** The scalars of the loss that are inputs of the graph, by name. */
  readonly lossScalars: readonly string[];
  /**
   * The type in which the model runs forward and backward. In float16 the loss is scaled (`loss-scaler.ts`). The state, the
   * loss and the update are float32.
   */
  readonly computeDtype: 'float32' | 'float16';
}

/** The numbers that each step takes anew, counted from 1. */
export interface StepSchedule {
  /** What the optimizer and the moving average take. @param step counts updates: steps that were not skipped. */
  update(step: number): StepScalars<number>;
  /** The value of each of `StepSettings.lossScalars`. */
  lossScalars(step: number): Readonly<Record<string, number>>;
}

/** What a step of a diffusion model computes, from what a `Trainer` was given. */
export function stepSettings(
  options: DiffusionParts & { readonly changeable_scalars?: readonly string[] | undefined },
  args: ResolvedTrainingArguments,
  ranks = 1,
): StepSettings<DiffusionObjective> {
  return settingsOf(new DiffusionObjective(options, args), args, { ranks, lossScalars: options.changeable_scalars });
}

/**
 * What a step computes.
 *
 * @param options.ranks the processes that share a step; default: this one alone.
 * @param options.lossScalars see `StepSettings`; default: none.
 */
export function settingsOf<Minimised extends Objective>(
  objective: Minimised,
  args: ResolvedTrainingArguments,
  {
    ranks = 1,
    lossScalars = [],
  }: { readonly ranks?: number; readonly lossScalars?: readonly string[] | undefined } = {},
): StepSettings<Minimised> {
  const batchesPerStep = args.gradient_accumulation_steps * ranks;
  return {
    objective,
    batchSize: args.per_device_train_batch_size,
    accumulationSteps: args.gradient_accumulation_steps,
    batchesPerStep,
    overStep: batchesPerStep > 1 && args.isotropy_over === 'step',
    optimizer: optimizerSettings(args),
    maxGradNorm: args.max_grad_norm,
    ema: args.use_ema,
    gradientCheckpointing: args.gradient_checkpointing,
    lossScalars,
    computeDtype: args.mixed_precision === 'fp16' ? 'float16' : 'float32',
  };
}

/**
 * The learning rate, its corrections and the rate of the moving average at each step of a run of `maxSteps`.
 *
 * @param live what may change while the run lasts; it is asked anew for each step.
 */
export function stepSchedule(
  args: ResolvedTrainingArguments,
  maxSteps: number,
  live: { readonly learningRate: number; readonly lossScalars: Readonly<Record<string, number>> } = {
    learningRate: args.learning_rate,
    lossScalars: {},
  },
): StepSchedule {
  const optimizer = optimizerSettings(args);
  return {
    update: (step) => ({
      ...optimizerScalars(
        step,
        learningRateAt(step, { ...args, learning_rate: live.learningRate }, maxSteps),
        optimizer,
      ),
      emaRate: 1 - emaDecayAt(step, args),
    }),
    lossScalars: () => live.lossScalars,
  };
}
