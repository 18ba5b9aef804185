export {
  ConditionalDense,
  type ConditionalDenseConfig,
  type ConditionalDenseOptions,
} from './conditional-dense.ts';
export {
  configOptions,
  type DiffusionModel,
  exportModel,
  exportModelGraph,
  initialParameters,
  type ModelConfig,
  type ModelInputs,
  type SampleSize,
} from './model.ts';
export { OnnxFeatureMaps, type OnnxFeatureMapsOptions } from './onnx/feature-maps.ts';
export type { InputNames } from './onnx/inputs.ts';
export { OnnxModel, type OnnxModelConfig, type OnnxModelOptions } from './onnx/model.ts';
export { type ModelClass, modelFromConfig, models } from './registry.ts';
export type { UNet2DConfig, UNet2DOptions } from './unet-2d/config.ts';
export { UNET_2D_PRESETS, type UNet2DPreset, unet2DPreset } from './unet-2d/presets.ts';
export { UNet2DModel } from './unet-2d/unet-2d.ts';
