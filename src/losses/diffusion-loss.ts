import { GraphError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { broadcastShapes, formatShape, sameShape } from '../graph/types.ts';
import type { PredictionType } from './predicted-epsilon.ts';

/** What a loss may use: the noising x_t = sqrt(alphaCumprod) cleanSample + sqrt(1 - alphaCumprod) epsilon. */
export interface LossInputs {
  /** What the model returned, of the shape of `epsilon`; of a model with learned variance, the mean part. */
  readonly modelOutput: Value;
  /** The noise that was added, [batch, ...]. */
  readonly epsilon: Value;
  /** x_t, of the shape of `epsilon`. */
  readonly noisySample: Value;
  /** x_0, of the shape of `epsilon`. */
  readonly cleanSample: Value;
  /** The cumulative product of alphas at each sample's timestep, in (0, 1): [batch, 1, ...]. */
  readonly alphaCumprod: Value;
  /** What `modelOutput` predicts. */
  readonly predictionType: PredictionType;
  /** Present where the model learns its variance. */
  readonly learnedVariance?: LearnedVariance | undefined;
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
export interface LossTerms {
  /** What is minimised. */
  readonly loss: Value;
  /** The loss without the isotropy penalty, and without the variational bound of a hybrid loss. */
  readonly base: Value;
  /** (isotropy - 1)^2, not weighted. */
  readonly isotropyPenalty: Value;
  /** Mean of the squared predicted noise per element: E[eps-hat^T eps-hat] / n; 1 for white noise. */
  readonly isotropy: Value;
}

/** How a loss is written to JSON; `lossFromConfig` reads it back. */
export interface LossConfig {
  readonly name: string;
  readonly [option: string]: string | number | LossConfig;
}

/** A function that adds a loss to the graph of its inputs, with the configuration that names it. */
export type DiffusionLoss = ((inputs: LossInputs) => LossTerms) & {
  readonly config: LossConfig;
  /** Whether it needs `LossInputs.learnedVariance`. */
  readonly learnsVariance: boolean;
};

/**
 * Makes a loss from a function, for one's own base losses. The inputs are checked before `build` sees them.
 *
 * @param options.learnsVariance whether the loss trains a learned variance; default false.
 * @throws {GraphError} from the loss, when its inputs do not fit together.
 * @example
 * const l1 = defineLoss({ name: 'l1' }, (inputs) => {
 *   const base = reduceMean(abs(sub(inputs.modelOutput, regressionTarget(inputs))));
 *   return { loss: base, base, ...isotropyOf(inputs) };
 * });
 * const isoL1 = isoLoss({ lambda: 0.1, base: l1 });
 */
export function defineLoss(
  config: LossConfig,
  build: (inputs: LossInputs) => LossTerms,
  { learnsVariance = false }: { readonly learnsVariance?: boolean } = {},
): DiffusionLoss {
  const loss = (inputs: LossInputs) => {
    checkInputs(config.name, inputs);
    return build(inputs);
  };
  return Object.assign(loss, { config, learnsVariance });
}

/** Equal shapes are demanded because broadcasting would turn a mistake into a wrong loss instead of an error. */
function checkInputs(name: string, inputs: LossInputs): void {
  const { epsilon, alphaCumprod } = inputs;
  for (const role of ['modelOutput', 'noisySample', 'cleanSample'] as const) {
    const value = inputs[role];
    if (value.dtype === epsilon.dtype && sameShape(value.shape, epsilon.shape)) continue;
    throw new GraphError(
      `loss '${name}': ${role} is ${value.dtype} ${formatShape(value.shape)}, but epsilon is ${epsilon.dtype} ${formatShape(epsilon.shape)}: they must be alike`,
    );
  }
  const broadcast = broadcastShapes(epsilon.shape, alphaCumprod.shape, `loss '${name}': alphaCumprod`);
  if (alphaCumprod.dtype !== epsilon.dtype || !sameShape(broadcast, epsilon.shape))
    throw new GraphError(
      `loss '${name}': alphaCumprod is ${alphaCumprod.dtype} ${formatShape(alphaCumprod.shape)} and does not broadcast to epsilon, ${epsilon.dtype} ${formatShape(epsilon.shape)}`,
    );
}
