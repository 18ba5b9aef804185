import { stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { z } from 'zod';
import { applyScaler, loadPoints, type PointSet } from '../datasets/index.ts';
import { precisionRecallDensityCoverage } from '../metrics/index.ts';
import { pipeline } from '../pipelines/pipeline.ts';
import { type PlotPoints, scatterPlot, writePlot } from '../plots/index.ts';
import { DEVICES } from '../runtime/device.ts';
import { addOptions, option, readSettings, type Settings } from './command-options.ts';
import { withInterrupt } from './interrupt.ts';
import { withFractionBar } from './progress.ts';
import { formatTable } from './table.ts';

const options = {
  real: option('--real <name|file>', z.string('name a data set'), 'the real points'),
  fake: option('--fake <folder|file>', z.string('name a pipeline or a file'), 'a pipeline, .csv or .npy'),
  k: option('--k <count>', z.number().default(5), 'nearest neighbours'),
  n: option('--n <count>', z.number().optional(), 'real points, and points to draw from a pipeline'),
  steps: option('--steps <count>', z.number().optional(), 'steps of the reverse process (1000)'),
  data_seed: option('--data-seed <seed>', z.number().default(0), 'seed of the made real points'),
  seed: option('--seed <seed>', z.number().default(0), 'seed of the drawn points'),
  device: option('--device <name>', z.enum(DEVICES).default('auto'), DEVICES.join(', ')),
  plot: option('--plot <path>', z.string().optional(), 'write a scatter plot of 2-D points as .svg and .png'),
  json: option('--json', z.boolean().default(false), 'print JSON'),
};

export function addEvaluateCommand(program: Command): void {
  const command = program
    .command('evaluate')
    .description('Precision, Recall, Density and Coverage of generated points.')
    .addHelpText(
      'after',
      `
Examples:
  iso-diffusion evaluate --real swiss-roll --fake runs/swiss-roll/pipeline
  iso-diffusion evaluate --real real.csv --fake points.csv --k 5 --json
  iso-diffusion evaluate --real moons --fake runs/moons/pipeline --plot scatter.png

A pipeline is compared in its own units: the real points are scaled as its training data was. Files are compared
after both were scaled by the real points' minimum and maximum.`,
    );
  addOptions(command, options).action(async (flags) => evaluate(await readSettings(options, flags)));
}

async function evaluate(settings: Settings<typeof options>): Promise<void> {
  const { k, json } = settings;
  const isFolder = (await stat(settings.fake).catch(() => undefined))?.isDirectory() ?? false;
  const { prdc, points } = await withInterrupt('interrupted', async (signal) => {
    const { real, fake } = isFolder ? await fromPipeline(settings, signal) : await fromFiles(settings);
    const metrics = await withFractionBar('evaluate', (on_progress) =>
      precisionRecallDensityCoverage(real, fake, { nearest_k: k, on_progress, signal }),
    );
    const prdc = { ...metrics, k, real_count: real.count, fake_count: fake.count };
    return { prdc, points: { real, fake } };
  });
  const plots = settings.plot ? await writeScatter(settings.plot, points) : [];
  if (json) console.log(JSON.stringify(prdc));
  else console.log(formatTable(['metric', 'value'], Object.entries(prdc)));
  for (const plot of plots) process.stderr.write(`plot: ${plot}\n`);
}

/** @throws {InvalidArgumentError} for points that are not in 2-D. */
async function writeScatter(file: string, points: { real: PlotPoints; fake: PlotPoints }): Promise<string[]> {
  const svg = await scatterPlot({ ...points, title: 'generated over real' });
  return writePlot(file.replace(/\.(svg|png)$/, ''), svg);
}

function rawReal({ real, n, data_seed }: Settings<typeof options>): Promise<PointSet> {
  return loadPoints(real, { n, seed: data_seed, scaling: 'none' });
}

async function fromPipeline(settings: Settings<typeof options>, signal: AbortSignal) {
  const raw = await rawReal(settings);
  const draw = await pipeline('unconditional-point-generation', settings.fake, { device: settings.device });
  try {
    const { points, dims } = await withFractionBar('generate', (on_progress) =>
      draw({
        batch_size: settings.n ?? raw.count,
        num_inference_steps: settings.steps,
        seed: settings.seed,
        output_type: 'scaled',
        on_progress,
        signal,
      }),
    );
    // Points of other dimensions cannot be scaled; the metric says so.
    const data = raw.dims === dims[1] ? applyScaler(draw.scaler, raw.data, raw.dims) : raw.data;
    return { real: { ...raw, data }, fake: { data: points, count: dims[0], dims: dims[1] } };
  } finally {
    await draw.dispose();
  }
}

async function fromFiles(settings: Settings<typeof options>) {
  const real = await loadPoints(settings.real, { n: settings.n, seed: settings.data_seed });
  const fake = await loadPoints(settings.fake, { n: settings.n, scaling: 'none' });
  const data = real.dims === fake.dims ? applyScaler(real.scaler, fake.data, fake.dims) : fake.data;
  return { real, fake: { ...fake, data } };
}
