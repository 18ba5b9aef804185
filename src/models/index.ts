export {
  ConditionalDense,
  type ConditionalDenseConfig,
  type ConditionalDenseOptions,
} from './conditional-dense.ts';
export {
  type DiffusionModel,
  exportModelGraph,
  initialParameters,
  type ModelConfig,
  type ParameterSpec,
  type ParameterValues,
} from './model.ts';
export { modelFromConfig } from './model-from-config.ts';
