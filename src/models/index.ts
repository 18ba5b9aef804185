export {
  ConditionalDense,
  type ConditionalDenseConfig,
  type ConditionalDenseOptions,
} from './conditional-dense.ts';
export {
  type DiffusionModel,
  exportModel,
  exportModelGraph,
  initialParameters,
  type ModelConfig,
  type ModelInputs,
} from './model.ts';
export { OnnxModel, type OnnxModelConfig, type OnnxModelOptions } from './onnx-model.ts';
export { type ModelClass, modelFromConfig, models } from './registry.ts';
export {
  UNET_2D_PRESETS,
  type UNet2DConfig,
  UNet2DModel,
  type UNet2DOptions,
  type UNet2DPreset,
  unet2DPreset,
} from './unet-2d/index.ts';
