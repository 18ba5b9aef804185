import type { Command } from 'commander';
import { InvalidArgumentError } from '../../../errors.ts';
import { addOptions, givenFlag, readSettings, type Settings } from '../../options/command-options.ts';
import { modelNamed } from '../../options/saved-model.ts';
import { samplingOptions } from '../../options/shared-options.ts';
import { downloadBar } from '../../ui/progress.ts';
import { generateImages, imageOptions } from './generate-images.ts';
import { generatePoints, pointOptions } from './generate-points.ts';

const options = { ...samplingOptions, ...pointOptions, ...imageOptions };

export function defineGenerate(command: Command): void {
  command.addHelpText(
    'after',
    `
Examples:
  iso-diffusion generate --model runs/swiss-roll/pipeline --scheduler dpm++-karras --steps 20 --out points.csv
  iso-diffusion generate --model runs/swiss-roll/pipeline --real swiss-roll --out points.csv plot.png
  iso-diffusion generate --model runs/photos/pipeline --scheduler dpm++ --steps 20 --out grid.png
  iso-diffusion generate --model runs/photos/pipeline --n 10000 --batch-size 32 --out samples
  iso-diffusion generate --model runs/photos/pipeline --n 10000 --device cuda --dtype fp16 --out samples
  iso-diffusion generate --model runs/digits/pipeline --class-labels 0 1 2 3 4 5 6 7 8 9 --n 100 --columns 10
  iso-diffusion generate --model runs/photos/pipeline --init-image photo.png --strength 0.6 --n 4 --out grid.png
  iso-diffusion generate --model runs/photos/pipeline --init-image photo.png --mask mask.png --n 4 --out grid.png
  iso-diffusion generate --model runs/photos/pipeline --interpolate 1 2 --n 8 --out grid.png
  iso-diffusion generate --model google/ddpm-cifar10-32 --n 1 --seed 7 --out image.png

The same command completes a partly filled folder, with the same images as an uninterrupted run. With --share 1/4 to
--share 4/4 four processes or machines fill a folder together, and so do the ranks of mpirun, which need no option.`,
  );
  addOptions(command, options).action(async (flags) => generate(await readSettings(options, flags)));
}

async function generate(settings: Settings<typeof options>): Promise<void> {
  const { revision, dtype } = settings;
  const model = await downloadBar((progress_callback) =>
    modelNamed(settings.model, { revision, dtype, progress_callback }),
  );
  const other = givenFlag(settings, Object.keys(model.kind === 'points' ? imageOptions : pointOptions));
  if (other !== undefined)
    throw new InvalidArgumentError(`option ${other} does not fit: '${settings.model}' draws ${model.kind}`);
  const draw = model.kind === 'points' ? generatePoints : generateImages;
  const said = await draw(model.path, settings);
  if (said !== '') console.log(said);
}
