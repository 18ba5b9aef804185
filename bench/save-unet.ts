import { UNet2DModel, type UNet2DPreset, unet2DPreset } from '../src/models/index.ts';
import { saveModel } from '../test/pipelines/saved-unet.ts';

/** `tsx save-unet.ts PRESET FOLDER` saves a U-Net with the weights of seed 0 as a pipeline folder. */
const [preset = '', folder = ''] = process.argv.slice(2);
await saveModel(folder, new UNet2DModel(unet2DPreset(preset as UNet2DPreset)));
