import path from 'node:path';
import { loadImages } from '../../../src/datasets/index.ts';
import { isoLoss } from '../../../src/losses/index.ts';
import { UNet2DModel, unet2DPreset } from '../../../src/models/index.ts';
import { pipeline } from '../../../src/pipelines/index.ts';
import { DDIMScheduler, DDPMScheduler } from '../../../src/schedulers/index.ts';
import { type StepMetrics, Trainer } from '../../../src/trainers/index.ts';
import { savePictures } from '../pictures.ts';
import { everyPrecision, mixedPrecision, type Section } from '../section.ts';

const PICTURES = 64;

/** A run as a user makes it, from the data to pictures. */
export const trainingSection: Section = {
  title: 'A whole run',
  note: `A small U-Net on the 8x8 digits with iso loss, λ = 0.05, EMA and checkpoints; then ${PICTURES} pictures from the saved pipeline by 50 DDIM steps, in \`pictures-*.npy\`.`,
  cases: (devices, quick) => everyPrecision(devices, quick ? 8 : 128),
  async run({ device, precision, batch, quick, output }) {
    const train_dataset = await loadImages('digits', { resolution: 8 });
    const max_steps = quick ? 4 : device === 'webgpu' ? 150 : 1500;
    const logged: StepMetrics[] = [];
    const folder = path.join(output, `run-${device}-${precision}`);
    const trainer = new Trainer({
      model: new UNet2DModel({ ...unet2DPreset('small'), sample_size: 8, in_channels: 1, out_channels: 1 }),
      args: {
        output_dir: folder,
        max_steps,
        per_device_train_batch_size: batch,
        device,
        mixed_precision: mixedPrecision(precision),
        logging_steps: Math.ceil(max_steps / 15),
        save_steps: max_steps,
        use_ema: true,
        report_to: [],
        disable_tqdm: true,
      },
      train_dataset,
      loss: isoLoss({ lambda: 0.05 }),
      noise_scheduler: new DDPMScheduler(),
      callbacks: [{ onStep: (_progress, metrics) => void logged.push(metrics) }],
    });
    const start = performance.now();
    await trainer.train();
    const seconds = (performance.now() - start) / 1000;
    await trainer.savePipeline(path.join(folder, 'pipeline'));
    const generate = await pipeline('unconditional-image-generation', path.join(folder, 'pipeline'), { device });
    const scheduler = new DDIMScheduler(generate.scheduler.config);
    const { data } = await generate({
      batch_size: PICTURES,
      num_inference_steps: 50,
      seed: 0,
      scheduler,
      output_type: 'uint8',
    });
    await generate.dispose();
    const file = path.join(output, `pictures-${device}-${precision}.npy`);
    await savePictures(file, data);
    const brightness = data.reduce((sum, value) => sum + value, 0) / data.length;
    return [
      { what: 'steps a second, with start, logs and checkpoint', value: max_steps / seconds },
      { what: 'loss at the first step', value: logged.at(0)?.loss ?? Number.NaN },
      { what: 'loss at the last step', value: logged.at(-1)?.loss ?? Number.NaN },
      { what: 'isotropy at the last step', value: logged.at(-1)?.isotropy ?? Number.NaN },
      { what: 'mean of the pictures, 0 to 255 (the digits: 78)', value: brightness },
    ];
  },
};
