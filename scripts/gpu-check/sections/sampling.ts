import path from 'node:path';
import { UNet2DModel, unet2DPreset } from '../../../src/models/index.ts';
import { initialParameters } from '../../../src/models/model.ts';
import { pipeline } from '../../../src/pipelines/index.ts';
import { DDPMScheduler } from '../../../src/schedulers/ddpm.ts';
import { saveTrainedPipeline } from '../../../src/trainers/save-pipeline.ts';
import { everyPrecision, type Section } from '../section.ts';

/** The time of reverse steps as a user has them: noise, network, scheduler, and bytes at the end. */
export const samplingSection: Section = {
  title: 'Sampling',
  note: 'DDPM steps of the `ddpm-cifar10` U-Net through its pipeline. A time is that of one step more: a call of 2n steps less one of n, over n.',
  cases: (devices, quick) => everyPrecision(devices, quick ? 2 : 128),
  async run({ device, precision, batch, quick, output }) {
    const model = new UNet2DModel(quick ? unet2DPreset('small', { sample_size: 16 }) : unet2DPreset('ddpm-cifar10'));
    const folder = path.join(output, 'untrained');
    const weights = initialParameters(model, 0);
    await saveTrainedPipeline(folder, { model, weights, scheduler: new DDPMScheduler() });
    const dtype = precision === 'float16' ? 'fp16' : 'fp32';
    const generate = await pipeline('unconditional-image-generation', folder, { device, dtype });
    const timed = async (num_inference_steps: number) => {
      const start = performance.now();
      await generate({ batch_size: batch, num_inference_steps, seed: 0, output_type: 'uint8' });
      return performance.now() - start;
    };
    const steps = quick ? 2 : 20;
    await timed(2);
    const short = await timed(steps);
    const stepMs = ((await timed(2 * steps)) - short) / steps;
    await generate.dispose();
    return [
      { what: 'a step, ms', value: stepMs },
      { what: 'images a second at 1000 steps', value: batch / stepMs },
    ];
  },
};
