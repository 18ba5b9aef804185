import path from 'node:path';
import type { Command } from 'commander';
import { applyScaler, loadPoints } from '../../datasets/index.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { csvText } from '../../experiments/text.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import { isotropyOfNoisedData, predictedNoiseIsotropy } from '../../metrics/index.ts';
import type { PointCloud } from '../../metrics/metric.ts';
import { pipeline } from '../../pipelines/pipeline.ts';
import { curvePlot, writePlot } from '../../plots/index.ts';
import { DDPMScheduler } from '../../schedulers/index.ts';
import * as z from '../../zod.ts';
import { addOptions, option, readSettings, type Settings } from '../options/command-options.ts';
import { deviceOption } from '../options/shared-options.ts';
import { withProgress } from '../ui/progress.ts';
import { formatTable } from '../ui/table.ts';
import { saveIsotropy } from './save-isotropy.ts';

const options = {
  dataset: option('--dataset <name|file>', z._default(z.string(), 'swiss-roll'), 'the data set'),
  model: option('--model <folder>', z.optional(z.string()), 'a pipeline whose predicted noise is analysed too'),
  n: option('--n <count>', z.optional(z.number()), 'number of points'),
  timesteps: option(
    '--timesteps <count>',
    z._default(z.int().check(z.gte(2), z.lte(10_000)), 21),
    'number of timesteps, evenly spaced',
  ),
  data_seed: option('--data-seed <seed>', z._default(z.number(), 0), 'seed of synthetic points'),
  seed: option('--seed <seed>', z._default(z.number(), 0), 'seed of the noise'),
  device: deviceOption(),
  output: option('--output <folder>', z.optional(z.string()), 'write isotropy.csv, .svg and .png there'),
  save: option(
    '--save',
    z._default(z.boolean(), false),
    "measure the model's isotropy over the data set, points or images, and save it for generate --iso-lambda",
  ),
  trained_lambda: option(
    '--trained-lambda <weight>',
    z.optional(z.number().check(z.gte(0))),
    'with --save: weight of the penalty in the training (default: what the folder says, else 0)',
  ),
  json: option('--json', z._default(z.boolean(), false), 'print JSON'),
};

/** Column name to value; `timestep` is the first. */
type Row = { timestep: number; [column: string]: number };

export function defineAnalyze(command: Command): void {
  command.addHelpText(
    'after',
    `
Examples:
  iso-diffusion analyze --dataset swiss-roll
  iso-diffusion analyze --dataset swiss-roll --model runs/swiss-roll/pipeline --output analysis
  iso-diffusion analyze --dataset points.npy --timesteps 101 --json
  iso-diffusion analyze --dataset ./photos --model google/ddpm-cifar10-32 --save

Columns: x_t_expected from the closed form and x_t from noised points. With a model also predicted_noise and its mean
squared error, mse. A model that minimises the mean squared error has predicted_noise = 1 - mse.`,
  );
  addOptions(command, options).action(async (flags) => analyze(await readSettings(options, flags)));
}

async function analyze(settings: Settings<typeof options>): Promise<void> {
  if (settings.save) return save(settings);
  const rows = settings.model === undefined ? await ofData(settings) : await ofModel(settings, settings.model);
  const columns = Object.keys(rows[0] ?? {});
  const cells = rows.map((row) => columns.map((column) => row[column] ?? Number.NaN));
  if (settings.json) console.log(JSON.stringify(rows));
  else console.log(formatTable(columns, cells));
  if (settings.output === undefined) return;

  const csv = path.join(settings.output, 'isotropy.csv');
  await writeFileAtomic(csv, csvText(rows));
  const timesteps = rows.map(({ timestep }) => timestep);
  const svg = await curvePlot({
    series: columns.slice(1).map((name) => ({ name, x: timesteps, y: rows.map((row) => row[name] ?? 0) })),
    title: `${settings.dataset}: isotropy by timestep`,
    x_label: 'timestep',
    y_label: 'squared norm per element',
  });
  const plots = await writePlot(path.join(settings.output, 'isotropy'), svg);
  process.stderr.write(`written: ${[csv, ...plots].join(', ')}\n`);
}

async function save(settings: Settings<typeof options>): Promise<void> {
  if (settings.model === undefined) throw new InvalidArgumentError('--save needs --model');
  const { file, isotropy } = await saveIsotropy(settings.model, settings);
  const { isotropy: value, standard_error, samples } = isotropy;
  if (settings.json) console.log(JSON.stringify(isotropy));
  else
    console.log(
      `isotropy ${value.toFixed(4)}, standard error ${standard_error.toFixed(4)}, ${samples} samples: ${file}`,
    );
}

async function ofData(settings: Settings<typeof options>): Promise<Row[]> {
  const points = await loadPoints(settings.dataset, { n: settings.n, seed: settings.data_seed });
  return noisedRows(points, new DDPMScheduler().alphasCumprod, settings);
}

async function ofModel(settings: Settings<typeof options>, folder: string): Promise<Row[]> {
  const raw = await loadPoints(settings.dataset, { n: settings.n, seed: settings.data_seed, scaling: 'none' });
  const { device } = settings;
  const { model, scheduler, scaler, dispose } = await pipeline('unconditional-point-generation', folder, { device });
  try {
    if (scaler.scale.length !== raw.dims)
      throw new InvalidArgumentError(
        `'${settings.dataset}' has ${raw.dims} dimensions, but the model has ${scaler.scale.length}`,
      );
    const points = { ...raw, data: applyScaler(scaler, raw.data, raw.dims) };
    const rows = noisedRows(points, scheduler.alphasCumprod, settings);
    const predicted = await withProgress('analyze', (watch) =>
      predictedNoiseIsotropy({
        model,
        prediction_type: scheduler.config.prediction_type,
        points,
        alphasCumprod: scheduler.alphasCumprod,
        timesteps: rows.map(({ timestep }) => timestep),
        seed: settings.seed,
        ...watch,
      }),
    );
    return rows.map((row, i) => ({
      ...row,
      predicted_noise: predicted[i]?.per_element ?? Number.NaN,
      mse: predicted[i]?.mse ?? Number.NaN,
    }));
  } finally {
    await dispose();
  }
}

function noisedRows(points: PointCloud, alphasCumprod: Float32Array, settings: Settings<typeof options>): Row[] {
  const last = alphasCumprod.length - 1;
  const count = Math.min(settings.timesteps, alphasCumprod.length);
  const timesteps = Array.from({ length: count }, (_, i) => Math.round((i * last) / (count - 1)));
  return isotropyOfNoisedData({ points, alphasCumprod, seed: settings.seed, timesteps }).map((row) => ({
    timestep: row.timestep,
    x_t_expected: row.expected.per_element,
    x_t: row.sampled.per_element,
  }));
}
