/**
 * Latent diffusion from end to end on the CPU. Trains an autoencoder whose latents are a quarter of the images' height and
 * width, trains DDPM (lambda = 0) and Iso-Diffusion on the latents, draws from both, and puts real, reconstructed and drawn
 * images side by side. Without --images (a folder, a .tar or a .parquet file) it takes the 1,797 handwritten digits that come
 * with this package, enlarged to 32x32.
 *
 *   npm run latent-diffusion
 *   npm run latent-diffusion -- --autoencoder-steps 200 --steps 300 --output ./quick
 *   npm run latent-diffusion -- --images ./photos --steps 3000
 *   npm run latent-diffusion -- --autoencoder ./quick/autoencoder/autoencoder --steps 3000 --output ./longer
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import {
  AutoencoderKL,
  AutoencoderTrainer,
  autoencoderLoss,
  DDPMScheduler,
  fillSample,
  type GridImages,
  type ImageSet,
  imagesFromArray,
  isoLoss,
  loadAutoencoder,
  loadImages,
  pipeline,
  Trainer,
  UNet2DModel,
  writeImagePanels,
} from 'iso-diffusion';

const { values } = parseArgs({
  options: {
    images: { type: 'string', default: 'digits' },
    resolution: { type: 'string', default: '32' },
    autoencoder: { type: 'string' },
    'autoencoder-steps': { type: 'string', default: '1500' },
    steps: { type: 'string', default: '2000' },
    lambda: { type: 'string', default: '0.05' },
    samples: { type: 'string', default: '36' },
    output: { type: 'string', default: 'latent-diffusion-output' },
  },
});
const output = path.resolve(values.output);
const digits = values.images === 'digits';
const resolution = Number(values.resolution);
const shown = Number(values.samples);

/** Says how long a part took: with other programs on the machine, processor time tells more than the clock. */
async function timed<Result>(what: string, work: () => Promise<Result>): Promise<Result> {
  const [started, used] = [performance.now(), process.cpuUsage()];
  const result = await work();
  const { user, system } = process.cpuUsage(used);
  const seconds = (milliseconds: number) => (milliseconds / 1000).toFixed(0);
  console.log(
    `${what}: ${seconds(performance.now() - started)} s, ${seconds((user + system) / 1000)} s of processor time`,
  );
  return result;
}

/** The images of a set with these numbers. */
function part(images: ImageSet, numbers: readonly number[]): ImageSet {
  const { name, height, width, channels } = images;
  const size = height * width * channels;
  const pixels = new Uint8Array(numbers.length * size);
  for (const [i, number] of numbers.entries()) pixels.set(images.pixels(number), i * size);
  return imagesFromArray(pixels, { name, height, width, channels });
}

/** Images of 32x32 become latents of 8x8 with 4 channels. */
async function trainAutoencoder(images: ImageSet, heldOut: ImageSet): Promise<string> {
  const { channels, height, width } = images;
  const trainer = new AutoencoderTrainer({
    autoencoder: new AutoencoderKL({
      sample_size: Math.min(height, width),
      in_channels: channels,
      out_channels: channels,
      latent_channels: 4,
      block_out_channels: [16, 32, 32],
      down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D', 'DownEncoderBlock2D'],
      up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D', 'UpDecoderBlock2D'],
      layers_per_block: 1,
      norm_num_groups: 8,
      mid_block_add_attention: false,
    }),
    args: {
      output_dir: path.join(output, 'autoencoder'),
      max_steps: Number(values['autoencoder-steps']),
      per_device_train_batch_size: 16,
      learning_rate: 1e-3,
      lr_scheduler_type: 'cosine',
      warmup_steps: 50,
      max_grad_norm: 1,
      random_flip: !digits,
      device: 'cpu',
    },
    train_dataset: images,
    loss: autoencoderLoss({ kl_weight: 1e-6 }),
  });
  await trainer.train();
  const { psnr } = await trainer.evaluate(heldOut);
  console.log(`reconstruction of ${heldOut.count} images that it has not seen: PSNR ${psnr.toFixed(2)} dB`);
  const folder = path.join(output, 'autoencoder', 'autoencoder');
  await trainer.saveAutoencoder(folder);
  return folder;
}

/** One run: train on the latents, save, load as a user would, draw. */
async function trainAndDraw(images: ImageSet, autoencoderFolder: string, lambda: number): Promise<GridImages> {
  const autoencoder = await loadAutoencoder(autoencoderFolder, { device: 'cpu' });
  const { latentChannels, downsampling } = autoencoder.autoencoder;
  const folder = path.join(output, lambda === 0 ? 'ddpm' : 'iso');
  const trainer = new Trainer({
    model: new UNet2DModel({
      sample_size: [images.height / downsampling, images.width / downsampling],
      in_channels: latentChannels,
      out_channels: latentChannels,
      block_out_channels: [32, 64],
      down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
      up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
      layers_per_block: 1,
      norm_num_groups: 8,
    }),
    args: {
      output_dir: folder,
      max_steps: Number(values.steps),
      per_device_train_batch_size: 16,
      learning_rate: 1e-3,
      lr_scheduler_type: 'cosine',
      warmup_steps: 50,
      max_grad_norm: 1,
      use_ema: true,
      random_flip: !digits,
      device: 'cpu',
    },
    train_dataset: images,
    autoencoder,
    latents: { cache_dir: path.join(output, 'cache') },
    loss: isoLoss({ lambda }),
    // Latents are not in [-1, 1]: clipping would cut them off.
    noise_scheduler: new DDPMScheduler({ clip_sample: false }),
    callbacks: [
      {
        onStep: ({ global_step, max_steps }, { base_loss = 0, isotropy = 0 }) => {
          if (global_step % 200 === 0 || global_step === max_steps)
            console.log(
              `  step ${global_step}/${max_steps}  mse ${base_loss.toFixed(4)}  isotropy ${isotropy.toFixed(4)}`,
            );
        },
      },
    ],
  });
  await trainer.train();
  await autoencoder.dispose();
  await trainer.savePipeline(path.join(folder, 'pipeline'));

  const generate = await pipeline('unconditional-image-generation', path.join(folder, 'pipeline'), { device: 'cpu' });
  const drawn = await generate({
    batch_size: shown,
    scheduler: 'dpm++',
    num_inference_steps: 25,
    seed: 0,
    output_type: 'uint8',
  });
  await generate.dispose();
  return drawn;
}

/** The first images of a set, and what the autoencoder makes of them. */
async function reconstructed(images: ImageSet, autoencoderFolder: string) {
  const { channels, height, width } = images;
  const count = Math.min(shown, images.count);
  const size = channels * height * width;
  const real = part(images, [...Array(count).keys()]);
  const given = new Float32Array(count * size);
  for (let i = 0; i < count; i++) fillSample(given, i * size, real.pixels(i), real);
  const autoencoder = await loadAutoencoder(autoencoderFolder, { device: 'cpu' });
  const latents = await autoencoder.encode({ data: given, shape: [count, channels, height, width] });
  const decoded = await autoencoder.decode(latents);
  await autoencoder.dispose();
  const bytes = (values: Float32Array): GridImages => {
    const data = new Uint8Array(values.length);
    const pixels = height * width;
    values.forEach((value, at) => {
      const [image, channel, pixel] = [Math.floor(at / size), Math.floor((at % size) / pixels), at % pixels];
      data[image * size + pixel * channels + channel] = Math.round(Math.min(Math.max(value + 1, 0), 2) * 127.5);
    });
    return { data, count, height, width, channels };
  };
  return { real: bytes(given), decoded: bytes(decoded.data) };
}

const all = await loadImages(values.images, { resolution, channels: digits ? 1 : 3 });
const numbers = [...Array(all.count).keys()];
const images = part(
  all,
  numbers.filter((number) => number % 10 > 0),
);
const heldOut = part(
  all,
  numbers.filter((number) => number % 10 === 0),
);
console.log(`${all.name}: ${images.count} images of ${all.height}x${all.width} to train on, ${heldOut.count} held out`);
const folder = values.autoencoder ?? (await timed('autoencoder', () => trainAutoencoder(images, heldOut)));
const lambda = Number(values.lambda);
const ddpm = await timed('DDPM', () => trainAndDraw(images, folder, 0));
const iso = await timed('Iso-Diffusion', () => trainAndDraw(images, folder, lambda));
const { real, decoded } = await reconstructed(heldOut, folder);
const picture = path.join(output, 'latent-diffusion.png');
await writeImagePanels(
  picture,
  [
    { title: 'Held out', images: real },
    { title: 'Reconstructed', images: decoded },
    { title: 'DDPM, λ = 0', images: ddpm },
    { title: `Iso-Diffusion, λ = ${lambda}`, images: iso },
  ],
  { scale: Math.max(1, Math.round(48 / all.width)) },
);
console.log(`\nWritten:\n  ${path.relative('.', picture)}`);
