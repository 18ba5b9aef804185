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
export { type AutoencoderClass, autoencoderFromConfig, autoencoders } from './registry.ts';
export { VQModel } from './vq-model.ts';
