import type { Command } from 'commander';
import { z } from 'zod';
import { InvalidArgumentError } from '../../../errors.ts';
import { addOptions, option, readSettings, type Settings } from '../../options/command-options.ts';
import { modelNamed } from '../../options/saved-model.ts';
import { deviceOption, schedulerClass, schedulerOption } from '../../options/shared-options.ts';
import { downloadBar } from '../../ui/progress.ts';
import { generateImages, imageOptions } from './generate-images.ts';
import { generatePoints, pointOptions } from './generate-points.ts';

const commonOptions = {
  model: option(
    '--model <folder|hub-id|file.onnx>',
    z.string('name the folder of a pipeline, a Hub id, or an ONNX file'),
    'the saved model',
  ),
  revision: option('--revision <name>', z.string().optional(), 'branch, tag or commit of a Hub id'),
  n: option('--n <count>', z.number().optional(), 'number of samples (default: points 10000, images 64)'),
  steps: option(
    '--steps <count>',
    z.number().optional(),
    'steps of the reverse process (default: 1000; 50 to 100 are enough for ddim)',
  ),
  scheduler: schedulerOption(),
  eta: option('--eta <value>', z.number().optional(), "ddim's eta, 0 to 1 (default: 0)"),
  seed: option('--seed <seed>', z.number().default(0), 'seed; sample i depends only on it and on i'),
  device: deviceOption(),
  out: option(
    '--out <paths...>',
    z.array(z.string()).min(1).optional(),
    'points: .csv, .npy, .svg and .png files (default: points.csv); images: a folder, a .png for a grid, or both (default: samples.png)',
  ),
};
/** `scheduler` is the class name, even if a short name was given. */
export type CommonSettings = Settings<typeof commonOptions>;

const options = { ...commonOptions, ...pointOptions, ...imageOptions };

export function addGenerateCommand(program: Command): void {
  const command = program
    .command('generate')
    .description('Sample points, in the units of the training data, or images from a saved model.')
    .addHelpText(
      'after',
      `
Examples:
  iso-diffusion generate --model runs/swiss-roll/pipeline --out points.csv
  iso-diffusion generate --model runs/swiss-roll/pipeline --real swiss-roll --out points.csv plot.png
  iso-diffusion generate --model runs/photos/pipeline --scheduler ddim --steps 50 --out grid.png
  iso-diffusion generate --model runs/photos/pipeline --n 10000 --batch-size 32 --out samples
  iso-diffusion generate --model runs/digits/pipeline --class-labels 0 1 2 3 4 5 6 7 8 9 --n 100 --columns 10
  iso-diffusion generate --model google/ddpm-cifar10-32 --n 1 --seed 7 --out image.png

The same command completes a partly filled folder, with the same images as an uninterrupted run.`,
    );
  addOptions(command, options).action(async (flags) => generate(await readSettings(options, flags)));
}

async function generate(settings: Settings<typeof options>): Promise<void> {
  const { revision } = settings;
  const scheduler = schedulerClass(settings.scheduler);
  const model = await downloadBar((progress_callback) =>
    modelNamed(settings.model, { revision, progress_callback }),
  );
  const other = model.kind === 'points' ? imageOptions : pointOptions;
  for (const [key, { flags }] of Object.entries(other))
    if (settings[key as keyof typeof options] !== undefined)
      throw new InvalidArgumentError(`option ${flags} does not fit: '${settings.model}' draws ${model.kind}`);
  const draw = model.kind === 'points' ? generatePoints : generateImages;
  console.log(await draw(model.path, { ...settings, scheduler }));
}
