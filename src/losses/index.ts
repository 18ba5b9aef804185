/**
 * `iso-diffusion/losses`: the losses alone. Most are functions that add nodes to a graph; `isoDiffusionLoss` and
 * `variationalBoundLoss` take plain arrays, and need no runtime.
 *
 * @packageDocumentation
 */

export type { PredictionType } from '../schedulers/schedule.ts';
export { type IsoDiffusionLossInputs, type IsoDiffusionLossResult, isoDiffusionLoss } from './arrays/iso.ts';
export {
  type VariationalBoundLossInputs,
  type VariationalBoundLossResult,
  variationalBoundLoss,
} from './arrays/variational-bound.ts';
export {
  type AutoencoderLoss,
  type AutoencoderLossInputs,
  type AutoencoderLossOptions,
  autoencoderLoss,
  type CodebookInputs,
  type PerceptualExtractor,
  type PerceptualTerm,
} from './autoencoder.ts';
export { type HybridLossOptions, hybridLoss } from './hybrid.ts';
export { type IsoLossOptions, isoLoss } from './iso.ts';
export { isotropyOf, predictedEpsilon, regressionTarget } from './isotropy.ts';
export {
  type DefineLossOptions,
  type DiffusionLoss,
  defineLoss,
  type LearnedVariance,
  type LossConfig,
  type LossInputs,
  type LossResult,
  type LossScalar,
} from './loss.ts';
export { minimiserScale, noiseScaleForLambda, type TrainedIsotropy } from './minimiser.ts';
export { type LossFactory, type LossFactoryOptions, losses, lossFromConfig } from './registry.ts';
export { type HuberLossOptions, huberLoss, l1Loss } from './robust.ts';
export { simpleLoss } from './simple.ts';
export { type MinSnrLossOptions, minSnrLoss, type P2LossOptions, p2Loss, snrLoss } from './weighted.ts';
