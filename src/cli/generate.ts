import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import type { Command } from 'commander';
import { z } from 'zod';
import { loadPoints, writeCsvPoints, writeNpyPoints } from '../datasets/index.ts';
import { InvalidArgumentError } from '../errors.ts';
import { writeFileAtomic } from '../hub/atomic-file.ts';
import { pipeline } from '../pipelines/pipeline.ts';
import { type PlotPoints, scatterPlot, svgToPng } from '../plots/index.ts';
import { DEVICES } from '../runtime/device.ts';
import { addOptions, option, readSettings, type Settings } from './command-options.ts';
import { withInterrupt } from './interrupt.ts';
import { withFractionBar } from './progress.ts';

const options = {
  model: option('--model <folder>', z.string('name the folder of a pipeline'), 'the saved pipeline'),
  n: option('--n <count>', z.number().default(10_000), 'points to draw'),
  steps: option('--steps <count>', z.number().optional(), 'steps of the reverse process (1000)'),
  scheduler: option('--scheduler <name>', z.enum(['ddpm', 'ddim']).default('ddpm'), 'ddpm or ddim'),
  eta: option('--eta <value>', z.number().optional(), "ddim's eta, 0 to 1 (0)"),
  seed: option('--seed <seed>', z.number().default(0), 'seed'),
  device: option('--device <name>', z.enum(DEVICES).default('auto'), DEVICES.join(', ')),
  real: option('--real <name|file>', z.string().optional(), 'plots: the real points beneath'),
  out: option(
    '--out <files...>',
    z.array(z.string()).default(['points.csv']),
    'files to write: .csv, .npy, .svg, .png',
  ),
};

export function addGenerateCommand(program: Command): void {
  const command = program
    .command('generate')
    .description('Draw points from a saved pipeline, in the units of its training data.')
    .addHelpText(
      'after',
      `
Examples:
  iso-diffusion generate --model runs/swiss-roll/pipeline --out points.csv
  iso-diffusion generate --model runs/swiss-roll/pipeline --scheduler ddim --steps 50 --out points.npy
  iso-diffusion generate --model runs/swiss-roll/pipeline --real swiss-roll --out points.csv plot.png`,
    );
  addOptions(command, options).action(async (flags) => generate(await readSettings(options, flags)));
}

async function generate(settings: Settings<typeof options>): Promise<void> {
  const { out, n, seed, steps, eta, scheduler } = settings;
  for (const file of out) refuseUnknownFormat(file);
  const draw = await pipeline('unconditional-point-generation', settings.model, { device: settings.device });
  try {
    const { points, dims } = await withInterrupt('interrupted', (signal) =>
      withFractionBar('generate', (on_progress) =>
        draw({
          batch_size: n,
          num_inference_steps: steps,
          seed,
          eta,
          signal,
          on_progress,
          scheduler: {
            ...draw.scheduler.toConfig(),
            _class_name: scheduler === 'ddim' ? 'DDIMScheduler' : 'DDPMScheduler',
          },
        }),
      ),
    );
    const fake = { data: points, count: dims[0], dims: dims[1] };
    for (const file of out) await writePoints(file, fake, settings.real);
    console.log(`${dims[0]} points of ${dims[1]} dimensions: ${out.join(', ')}`);
  } finally {
    await draw.dispose();
  }
}

function refuseUnknownFormat(file: string): void {
  if (['.csv', '.npy', '.svg', '.png'].includes(path.extname(file).toLowerCase())) return;
  throw new InvalidArgumentError(`--out '${file}' must end in .csv, .npy, .svg or .png`);
}

async function writePoints(file: string, fake: PlotPoints, real: string | undefined): Promise<void> {
  const extension = path.extname(file).toLowerCase();
  await mkdir(path.dirname(file), { recursive: true });
  if (extension === '.csv') return writeCsvPoints(file, fake.data, fake.dims);
  if (extension === '.npy') return writeNpyPoints(file, fake.data, fake.dims);
  const beneath = real === undefined ? fake : await loadPoints(real, { scaling: 'none' });
  const svg = await scatterPlot({ real: beneath, fake, title: `${fake.count} generated points` });
  await writeFileAtomic(file, extension === '.svg' ? svg : await svgToPng(svg));
}
