export {
  type Autoencoder,
  type ImageTensor,
  type KlAutoencoder,
  type LatentScaling,
  latentSize,
  type Quantized,
  scaleLatents,
  unscaleLatents,
  type VqAutoencoder,
  type VqDecodeOptions,
} from './autoencoder.ts';
export { AutoencoderKL } from './autoencoder-kl.ts';
export type { AutoencoderKLConfig, AutoencoderKLOptions, VQModelConfig, VQModelOptions } from './config.ts';
export { type ExportAutoencoderOptions, exportDecoderGraph, exportEncoderGraph } from './export.ts';
export {
  type LoadAutoencoderOptions,
  loadAutoencoder,
  type OpenedAutoencoder,
  openAutoencoder,
} from './open-autoencoder.ts';
export { type AutoencoderClass, autoencoderFromConfig, autoencoders } from './registry.ts';
export { type SaveAutoencoderOptions, saveAutoencoder } from './save-autoencoder.ts';
export { AutoencoderSession, type AutoencoderSessionOptions, type EncodeOptions } from './session.ts';
export type { TilingOptions } from './tiling.ts';
export { VQModel } from './vq-model.ts';
