import { requireFunction, requireObject } from '../arguments.ts';
import { GraphError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { broadcastShapes, formatType, sameShape } from '../graph/types.ts';
import type { PredictionType } from '../schedulers/schedule.ts';

// The contract of a loss: a function that adds the loss of a batch, and the terms to report, to the graph of its inputs.

/** What a loss may use: the noising x_t = sqrt(alphaCumprod) cleanSample + sqrt(1 - alphaCumprod) epsilon. */
export interface LossInputs {
  /** What the model returned, of the shape of `epsilon`; of a model with learned variance, the mean part. */
  readonly modelOutput: Value;
  /** The noise that was added, and that the model predicts: [batch, ...]. */
  readonly epsilon: Value;
  /**
   * The noise in x_t, of the shape of `epsilon`, where another was added than the model predicts: with input perturbation.
   * Default: `epsilon`.
   */
  readonly inputNoise?: Value | undefined;
  /** x_t, of the shape of `epsilon`. */
  readonly noisySample: Value;
  /** x_0, of the shape of `epsilon`. */
  readonly cleanSample: Value;
  /** The cumulative product of alphas at each sample's timestep, in (0, 1): [batch, 1, ...]. */
  readonly alphaCumprod: Value;
  /** What `modelOutput` predicts. */
  readonly predictionType: PredictionType;
  /**
   * Where a step has several batches, and the trainer is exact over the step: turns a mean over this batch into the mean
   * over all of them, whose gradient is that of this batch. A loss asks for it where it takes a function of a mean that is
   * not linear, such as the square in the isotropy penalty. Each mean, a scalar, has a name of its own. A batch then needs a
   * second forward pass. Default: none, for the batch is the whole step.
   */
  readonly overStep?: ((name: string, mean: Value) => Value) | undefined;
  /** The second half of the output channels, where the model learns its variance. Default: none. */
  readonly learnedVariance?: LearnedVariance | undefined;
  /**
   * Scalars of the loss that are inputs of the graph, by name, float32 []: those of `TrainerOptions.changeable_scalars`. A
   * loss takes its own instead of a constant, and hands the others to its base. Default: none.
   */
  readonly scalars?: Readonly<Record<string, Value>> | undefined;
}

/** A number of a loss that may change while training runs, such as lambda. */
export interface LossScalar {
  /** Its value at first, finite. */
  readonly value: number;
  /** The least that it may become; default: every finite number is allowed. */
  readonly min?: number | undefined;
}

/** The second half of the channels of a model that learns its variance, and what gives it a meaning. */
export interface LearnedVariance {
  /** v, of the shape of `epsilon`: -1 stands for the posterior variance, 1 for beta (diffusers' `learned_range`). */
  readonly output: Value;
  /** Each sample's timestep from 0, int32 or int64: [batch]. */
  readonly timestep: Value;
  /** The variances of the forward process, one for each training timestep. */
  readonly betas: ArrayLike<number>;
}

/** Scalars in the graph of the model output. */
export interface LossResult {
  /** What is minimised. */
  readonly loss: Value;
  /**
   * What is reported beside it, under its name: in the log, TensorBoard, callbacks, plots and on the console. Every term
   * is a scalar. A name begins with a letter, has letters, digits, '_', '.', '/' and '-', and is none of those that the
   * trainer reports itself (loss, grad_norm, learning_rate, step, epoch, steps_per_second).
   *
   * Built-in losses report `base_loss` (the loss without penalty and bound), `isotropy`, `isotropy_penalty`,
   * `weighted_isotropy_penalty` (lambda times the penalty) and `variational_bound`.
   */
  readonly terms: Readonly<Record<string, Value>>;
}

/** How a loss is written to JSON; `lossFromConfig` reads it back. */
export interface LossConfig {
  /** The loss, by its name in `losses`. */
  readonly name: string;
  readonly [option: string]: string | number | boolean | LossConfig;
}

/** A function that adds a loss to the graph of its inputs, with the configuration that names it. */
export type DiffusionLoss = ((inputs: LossInputs) => LossResult) & {
  /** Names the loss and its options; a checkpoint is continued only by a loss of the same config. */
  readonly config: LossConfig;
  /** Whether it needs `LossInputs.learnedVariance`. */
  readonly learnsVariance: boolean;
  /** What may change while training runs, by name: `lambda` of `isoLoss`, `vlb_weight` of `hybridLoss`, those of the base. */
  readonly scalars: Readonly<Record<string, LossScalar>>;
};

/** Options of `defineLoss`. */
export interface DefineLossOptions {
  /** Whether the loss trains a learned variance; default false. */
  readonly learnsVariance?: boolean | undefined;
  /** Its numbers that may change while training runs, and those of its base; default none. See `LossInputs.scalars`. */
  readonly scalars?: Readonly<Record<string, LossScalar>> | undefined;
}

/**
 * Makes a loss from a function. The inputs are checked before `build` sees them.
 *
 * @param config names the loss and holds its options; a checkpoint can be continued only by a loss of the same config.
 * @param build adds the loss to the graph of the inputs, with ops of `iso-diffusion/graph`.
 * @throws {GraphError} from the loss, when its inputs do not fit together.
 * @example
 * import { reduceMean, softplus, square, sub } from 'iso-diffusion/graph';
 *
 * const logisticLoss = () =>
 *   defineLoss({ name: 'logistic' }, (inputs) => {
 *     const loss = reduceMean(softplus(square(sub(inputs.modelOutput, regressionTarget(inputs)))));
 *     return { loss, terms: { base_loss: loss } };
 *   });
 * losses.register('logistic', logisticLoss);
 * const isoLogistic = isoLoss({ lambda: 0.1, base: logisticLoss() });
 */
export function defineLoss(
  config: LossConfig,
  build: (inputs: LossInputs) => LossResult,
  options: DefineLossOptions = {},
): DiffusionLoss {
  requireObject('the config of a loss', config);
  requireFunction('what builds a loss', build);
  requireObject('the options of defineLoss', options);
  const { learnsVariance = false, scalars = {} } = options;
  const loss = (inputs: LossInputs) => {
    checkInputs(config.name, inputs);
    return build(inputs);
  };
  return Object.assign(loss, { config, learnsVariance, scalars });
}

/** Equal shapes are demanded because broadcasting would turn a mistake into a wrong loss instead of an error. */
function checkInputs(name: string, inputs: LossInputs): void {
  const { epsilon, alphaCumprod } = inputs;
  for (const role of ['modelOutput', 'inputNoise', 'noisySample', 'cleanSample'] as const) {
    const value = inputs[role] ?? epsilon;
    if (value.dtype === epsilon.dtype && sameShape(value.shape, epsilon.shape)) continue;
    throw new GraphError(
      `loss '${name}': ${role} is ${formatType(value)}, but epsilon is ${formatType(epsilon)}: they must be alike`,
    );
  }
  const broadcast = broadcastShapes(epsilon.shape, alphaCumprod.shape, `loss '${name}': alphaCumprod`);
  if (alphaCumprod.dtype !== epsilon.dtype || !sameShape(broadcast, epsilon.shape))
    throw new GraphError(
      `loss '${name}': alphaCumprod is ${formatType(alphaCumprod)} and does not broadcast to epsilon, ${formatType(epsilon)}`,
    );
}
