/**
 * Trains DDPM (lambda = 0) and Iso-Diffusion (lambda = 0.05) on images, draws from each, and puts the drawn images
 * beside real ones. Without --images (a folder, a .tar or a .parquet file) it takes the 1,797 handwritten digits of 8x8
 * pixels that come with this package.
 *
 *   npm run quickstart:images
 *   npm run quickstart:images -- --steps 300 --output ./quick
 *   npm run quickstart:images -- --images ./photos --resolution 32 --steps 2000
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import {
  DDPMScheduler,
  type GridImages,
  type ImageSet,
  isoLoss,
  loadImages,
  pipeline,
  Trainer,
  UNet2DModel,
  writeImageGrid,
  writeImagePanels,
} from 'iso-diffusion';

const { values } = parseArgs({
  options: {
    images: { type: 'string', default: 'digits' },
    resolution: { type: 'string', default: '8' },
    steps: { type: 'string', default: '1500' },
    samples: { type: 'string', default: '64' },
    output: { type: 'string', default: 'quickstart-images-output' },
  },
});
const output = path.resolve(values.output);
const digits = values.images === 'digits';
const shown = Number(values.samples);

/** A U-Net small enough for a CPU: attention at half the resolution. */
function smallUNet({ channels, height, width }: ImageSet): UNet2DModel {
  return new UNet2DModel({
    sample_size: [height, width],
    in_channels: channels,
    out_channels: channels,
    block_out_channels: [32, 64],
    down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
    up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
    layers_per_block: 1,
    norm_num_groups: 8,
  });
}

/** One run: train, save, load as a user would, draw a grid. */
async function trainAndDraw(images: ImageSet, lambda: number) {
  const folder = path.join(output, lambda === 0 ? 'ddpm' : 'iso');
  const trainer = new Trainer({
    model: smallUNet(images),
    args: {
      output_dir: folder,
      max_steps: Number(values.steps),
      per_device_train_batch_size: 32,
      learning_rate: 1e-3,
      lr_scheduler_type: 'cosine',
      warmup_steps: 50,
      optim: 'adamw',
      max_grad_norm: 1,
      use_ema: true,
      random_flip: !digits,
      device: 'cpu',
    },
    train_dataset: images,
    loss: isoLoss({ lambda }),
    noise_scheduler: new DDPMScheduler(),
    callbacks: [
      {
        onStep: ({ global_step, max_steps, steps_per_second }, { base_loss = 0, isotropy = 0 }) =>
          console.log(
            `  λ = ${lambda}  step ${global_step}/${max_steps}  mse ${base_loss.toFixed(4)}  isotropy ${isotropy.toFixed(4)}  ${steps_per_second.toFixed(1)} steps/s`,
          ),
      },
    ],
  });
  await trainer.train();
  const pipelineFolder = path.join(folder, 'pipeline');
  await trainer.savePipeline(pipelineFolder);

  const generate = await pipeline('unconditional-image-generation', pipelineFolder, { device: 'cpu' });
  const samples = await generate({
    batch_size: shown,
    scheduler: 'dpm++',
    num_inference_steps: 20,
    seed: 0,
    output_type: 'uint8',
  });
  await generate.dispose();
  const grid = path.join(output, `${lambda === 0 ? 'ddpm' : 'iso'}.png`);
  await writeImageGrid(grid, samples, { scale: scaleOf(images) });
  return { samples, files: [grid, pipelineFolder] };
}

/** Small images are enlarged, so that they can be seen. */
function scaleOf({ width }: ImageSet): number {
  return Math.max(1, Math.round(48 / width));
}

/** As many real images as are drawn, from the whole of the set. */
function realImages(images: ImageSet): GridImages {
  const { height, width, channels } = images;
  const count = Math.min(shown, images.count);
  const data = new Uint8Array(count * height * width * channels);
  for (let i = 0; i < count; i++)
    data.set(images.pixels(Math.floor((i * images.count) / count)), i * height * width * channels);
  return { data, count, height, width, channels };
}

const started = performance.now();
const images = await loadImages(values.images, {
  resolution: Number(values.resolution),
  channels: digits ? 1 : 3,
});
console.log(
  `${images.name}: ${images.count} images of ${images.height}x${images.width}, batch 32, ${values.steps} steps, on the CPU`,
);
const ddpm = await trainAndDraw(images, 0);
const iso = await trainAndDraw(images, 0.05);
const comparison = path.join(output, 'comparison.png');
await writeImagePanels(
  comparison,
  [
    { title: `Real: ${path.basename(images.name)}`, images: realImages(images) },
    { title: 'DDPM, λ = 0', images: ddpm.samples },
    { title: 'Iso-Diffusion, λ = 0.05', images: iso.samples },
  ],
  { scale: scaleOf(images) },
);
const files = [comparison, ...ddpm.files, ...iso.files];
console.log(`\nWritten:\n${files.map((file) => `  ${path.relative('.', file) || file}`).join('\n')}`);
console.log(`${((performance.now() - started) / 1000).toFixed(0)} s.`);
