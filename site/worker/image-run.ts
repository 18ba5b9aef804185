import { UNet2DModel } from '../../src/models/unet-2d/unet-2d.ts';
import { RandomStream, STREAM } from '../../src/random/random-stream.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { imageSamples } from '../../src/trainers/data/samples.ts';
import type { ImageData8, TrainingSetup } from '../messages.ts';
import { SCHEDULE } from '../settings.ts';
import { Denoiser } from './denoiser.ts';
import { reverseProcess } from './reverse-process.ts';
import { Training } from './training.ts';

/** A U-Net of 0.1 million parameters: what a tab can train on a CPU while somebody watches. */
const UNET = {
  block_out_channels: [16, 32],
  down_block_types: ['DownBlock2D', 'DownBlock2D'],
  up_block_types: ['UpBlock2D', 'UpBlock2D'],
  layers_per_block: 1,
  norm_num_groups: 8,
  add_attention: false,
} as const;

/** A model of small images that is being trained. */
export class ImageRun {
  private constructor(
    private readonly images: ImageData8,
    private readonly seed: number,
    readonly training: Training,
    private readonly denoiser: Denoiser,
    private readonly scheduler: DDPMScheduler,
  ) {}

  static async begin(
    { images, ...setup }: TrainingSetup & { readonly images: ImageData8 },
    device: 'cpu' | 'webgpu',
  ): Promise<ImageRun> {
    const { side, channels } = images;
    const model = new UNet2DModel({ ...UNET, sample_size: side, in_channels: channels, out_channels: channels });
    const scheduler = new DDPMScheduler({ ...SCHEDULE, clip_sample: true });
    const samples = imageSamples(imageSet(images), { random_flip: false });
    const denoiser = await Denoiser.create(model, device);
    const training = await Training.begin({ model, scheduler, samples, device }, setup);
    return new ImageRun(images, setup.seed, training, denoiser, scheduler);
  }

  async draw(first: number, count: number, steps: number): Promise<Uint8ClampedArray<ArrayBuffer>> {
    const { side, channels } = this.images;
    const plane = side * side;
    const noise = new Float32Array(count * channels * plane);
    for (let i = 0; i < count; i++) {
      const own = noise.subarray(i * channels * plane, (i + 1) * channels * plane);
      new RandomStream(this.seed, STREAM.sampling, first + i).fillNormal(own);
    }
    this.denoiser.use(await this.training.weights());
    const { frames } = await reverseProcess(this.denoiser, this.scheduler, noise, { steps });
    const drawn = frames.at(-1) ?? noise;
    return Uint8ClampedArray.from({ length: noise.length }, (_, at) => {
      const [image, pixel, channel] = [
        Math.floor(at / (channels * plane)),
        Math.floor(at / channels) % plane,
        at % channels,
      ];
      return 127.5 * ((drawn[(image * channels + channel) * plane + pixel] ?? 0) + 1);
    });
  }

  async release(): Promise<void> {
    await this.training.release();
    await this.denoiser.release();
  }
}

function imageSet({ name, pixels, side, channels }: ImageData8) {
  const size = side * side * channels;
  return {
    name,
    count: pixels.length / size,
    channels,
    height: side,
    width: side,
    labels: undefined,
    skipped: [],
    fingerprint: '',
    pixels: (index: number) => pixels.subarray(index * size, (index + 1) * size),
  };
}
