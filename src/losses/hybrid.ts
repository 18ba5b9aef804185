import { requireFunction, requireObject } from '../arguments.ts';
import { GraphError, InvalidArgumentError } from '../errors.ts';
import { add, mul } from '../graph/ops/elementwise.ts';
import { scalarLike } from '../graph/registry.ts';
import { type DiffusionLoss, defineLoss, type LossInputs } from './loss.ts';
import { simpleLoss } from './simple.ts';
import { variationalBoundOf } from './variational-bound.ts';

/** Options of `hybridLoss`. */
export interface HybridLossOptions {
  /** The loss of the mean part, such as `isoLoss(...)`; it must not learn the variance itself. Default `simpleLoss()`. */
  readonly base?: DiffusionLoss | undefined;
  /** Weight of the variational bound, finite and >= 0; default 0.001, as in the paper of Nichol & Dhariwal. */
  readonly vlb_weight?: number | undefined;
}

/**
 * L_hybrid = base + vlb_weight L_vlb (Nichol & Dhariwal 2021, eq. 16), for models that learn their variance: twice the
 * channels of the sample, of which the first half is the prediction and the second the variance
 * exp(v log beta + (1 - v) log beta-tilde) (eq. 15; diffusers' `learned_range`). The base, and so the isotropy penalty,
 * sees the prediction only; the bound trains the variance only, its gradient stops at the mean. At t = 0 it is the
 * likelihood of 256 levels in [-1, 1].
 *
 * L_vlb is a sum over T timesteps, of which a step draws one for each sample: the loss is base + vlb_weight T (its mean
 * term in bits per element). With 0.001 this is guided-diffusion's `RESCALED_MSE`, whose factor is T / 1000.
 *
 * Adds the term `variational_bound`, the mean term in bits per element, not weighted. The factor of the bound is called
 * `vlb_weight` in the graph.
 *
 * @throws {InvalidArgumentError} when `vlb_weight` is negative or not finite, or `base` learns the variance already.
 * @example
 * const model = new UNet2DModel({ ...unet2DPreset('ddpm-cifar10'), out_channels: 6 });
 * const loss = hybridLoss({ base: isoLoss({ lambda: 0.1 }) });
 */
export function hybridLoss(options: HybridLossOptions = {}): DiffusionLoss {
  requireObject('the argument of hybridLoss', options);
  const { base = simpleLoss(), vlb_weight = 0.001 } = options;
  requireFunction('the base of hybridLoss', base);
  if (!Number.isFinite(vlb_weight) || vlb_weight < 0)
    throw new InvalidArgumentError(
      `vlb_weight, the weight of the variational bound, must be a finite number >= 0, but is ${String(vlb_weight)} (0.001 is usual)`,
    );
  if (base.learnsVariance)
    throw new InvalidArgumentError(
      `the base '${base.config.name}' of a hybrid loss learns the variance already: use a base that trains the mean, such as isoLoss`,
    );
  const build = (inputs: LossInputs) => {
    const { learnedVariance } = inputs;
    if (!learnedVariance)
      throw new GraphError("loss 'hybrid' needs learnedVariance: a model with twice the channels of its sample");
    const { vlb_weight: changeable, ...ofBase } = inputs.scalars ?? {};
    const { loss, terms } = base({ ...inputs, scalars: ofBase });
    const bound = variationalBoundOf(inputs, learnedVariance);
    const timesteps = learnedVariance.betas.length;
    const weight = changeable
      ? mul(changeable, scalarLike(bound, timesteps))
      : scalarLike(bound, vlb_weight * timesteps, 'vlb_weight');
    return { loss: add(loss, mul(bound, weight)), terms: { base_loss: loss, ...terms, variational_bound: bound } };
  };
  const scalars = { ...base.scalars, vlb_weight: { value: vlb_weight, min: 0 } };
  return defineLoss({ name: 'hybrid', vlb_weight, base: base.config }, build, { learnsVariance: true, scalars });
}
