// Only compiled, never run: what a caller of the pipelines gets without a cast.
import { type DiffusionModel, pipeline, UNet2DModel, unet2DPreset } from 'iso-diffusion';

export const model: DiffusionModel = new UNet2DModel(unet2DPreset('ddpm-cifar10'));

const generate = await pipeline('unconditional-image-generation', './model');
const image = await generate();
const one = await generate({ batch_size: 1 });
const two = await generate({ batch_size: 2 });
export const saved = [image.save('a.png'), one.save('b.png'), ...two.map((each) => each.save('c.png'))];
