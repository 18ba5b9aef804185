export type { UNet2DConfig, UNet2DOptions } from './config.ts';
export { UNET_2D_PRESETS, type UNet2DPreset, unet2DPreset } from './presets.ts';
export { UNet2DModel } from './unet-2d-model.ts';
