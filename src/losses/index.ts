export {
  type DiffusionLoss,
  defineLoss,
  type LearnedVariance,
  type LossConfig,
  type LossInputs,
  type LossTerms,
} from './diffusion-loss.ts';
export { type HybridLossOptions, hybridLoss } from './hybrid.ts';
export { type IsoLossOptions, isoLoss } from './iso.ts';
export { isotropyOf } from './isotropy.ts';
export { lossFromConfig } from './loss-from-config.ts';
export { type PredictionType, predictedEpsilon, regressionTarget } from './predicted-epsilon.ts';
export { type IsoDiffusionLossInputs, type IsoDiffusionLossResult, isoDiffusionLoss } from './reference.ts';
export { simpleLoss } from './simple.ts';
export {
  type VariationalBoundLossInputs,
  type VariationalBoundLossResult,
  variationalBoundLoss,
} from './variational-bound-reference.ts';
