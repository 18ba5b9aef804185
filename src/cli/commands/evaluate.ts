import type { Command } from 'commander';
import { world } from '#distributed/world';
import { SINGLE } from '../../distributed/communicator.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { evaluate, evaluateWith } from '../../evaluation/evaluate.ts';
import { identify, loadPointPair } from '../../evaluation/inputs.ts';
import {
  checkedSettings,
  DEFAULT_SAMPLES,
  type EvaluatedSet,
  type EvaluateOptions,
  type EvaluationReport,
  type RealInput,
} from '../../evaluation/options.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import { type MetricOptions, mergeStatistics, metrics, readStatistics } from '../../metrics/index.ts';
import { scatterPlot, writePlot } from '../../plots/index.ts';
import { withInterrupt } from '../../terminal/interrupt.ts';
import * as z from '../../zod.ts';
import {
  addOptions,
  givenFlag,
  jsonObject,
  jsonSchema,
  listOption,
  option,
  readSettings,
  type Settings,
} from '../options/command-options.ts';
import { givenMetricOptions, metricOptions } from '../options/metric-options.ts';
import {
  classLabelsOption,
  deviceOption,
  extractorOptions,
  namedExtractor,
  schedulerOption,
} from '../options/shared-options.ts';
import { withStageBars } from '../ui/progress.ts';
import { formatTable } from '../ui/table.ts';
import { pathLengthOptions, printPathLength, refuseWithoutPpl } from './path-length.ts';

const options = {
  real: listOption(
    'files',
    '--real <sources...>',
    z.optional(z.array(z.string(), 'name a data set').check(z.minLength(1, 'name a data set'))),
    'the real samples, which all but --ppl need; several .npz files are merged',
  ),
  fake: option('--fake <source>', z.string('name a pipeline, a folder or a file'), 'the generated samples'),
  metrics: listOption(
    'names',
    '--metrics <names...>',
    z.optional(z.array(z.string()).check(z.minLength(1, 'name a metric'))),
    `${metrics.names().join(', ')}, or registered ones (default: images fid,kid,prdc; points prdc)`,
  ),
  metric_options: option(
    '--metric-options <json>',
    z.optional(jsonSchema),
    'options of registered metrics, such as \'{"power": 1}\'',
  ),
  ...metricOptions,
  ...pathLengthOptions,
  ...extractorOptions,
  logits_extractor: option(
    '--logits-extractor <name|file:output>',
    z.optional(z.string()),
    "extractor of the class logits for 'is' (default: with the extractor inception its own classifier)",
  ),
  split: option(
    '--split <name>',
    z.optional(z.string()),
    'split of the real images: train (default), validation, test, or all',
  ),
  dataset_config_name: option(
    '--dataset-config-name <name>',
    z.optional(z.string()),
    'configuration of real images of the Hub (default: its only or default one)',
  ),
  dataset_revision: option(
    '--dataset-revision <name>',
    z.optional(z.string()),
    'branch, tag or commit of real images of the Hub (default: main)',
  ),
  fake_split: option(
    '--fake-split <name>',
    z.optional(z.string()),
    'split of the generated images, where they have any',
  ),
  n: option(
    '--n <count>',
    z.optional(z.number()),
    'number of generated samples, and of real points (default: all stored ones; 10000 from a pipeline)',
  ),
  n_real: option('--n-real <count>', z.optional(z.number()), 'real samples (default: all)'),
  k: option('--k <count>', z._default(z.number(), 5), 'nearest neighbours of prdc'),
  steps: option('--steps <count>', z.optional(z.number()), 'steps of the reverse process (default: 1000)'),
  scheduler: schedulerOption(),
  class_labels: classLabelsOption('classes that a class-conditional pipeline draws in turn, such as 0,1,2'),
  data_seed: option('--data-seed <seed>', z._default(z.number(), 0), 'seed of synthetic real points'),
  seed: option(
    '--rng-seed, --seed <seed>',
    z._default(z.number(), 0),
    'seed of the generated samples and of everything random',
  ),
  device: deviceOption(),
  plot: option('--plot <path>', z.optional(z.string()), 'write a scatter plot of 2-D points as .svg and .png'),
  contact_sheets: option(
    '--contact-sheets <folder>',
    z.optional(z.string()),
    'write pictures of what went wrong: uncovered real samples, generated ones outside, the best beside their nearest real ones',
  ),
  json: option(
    '--json [file]',
    z._default(z.union([z.boolean(), z.string()]), false),
    'print JSON, or write it to a file',
  ),
};
type EvaluateSettings = Settings<typeof options>;

export function defineEvaluate(command: Command): void {
  command.addHelpText(
    'after',
    `
Examples:
  iso-diffusion evaluate --real swiss-roll --fake runs/swiss-roll/pipeline
  iso-diffusion evaluate --real real.csv --fake points.csv --k 5 --json
  iso-diffusion evaluate --real moons --fake runs/moons/pipeline --plot scatter.png
  iso-diffusion evaluate --real photos --fake generated --metrics fid,kid,is,prdc --json report.json
  iso-diffusion evaluate --real digits --fake runs/digits/pipeline --extractor raw-pixels --n 1000 --steps 50
  iso-diffusion evaluate --real photos --fake generated --contact-sheets sheets
  iso-diffusion evaluate --real part-1.npz part-2.npz --fake generated --metrics fid --extractor model.onnx:pool

Images: a folder, .tar, .parquet, IDX or CIFAR-10 file, digits, oxford-flowers-102, oxford-iiit-pet, owner/name of a data
set of the Hub, or a pipeline.
They keep their size; the extractor resizes them. Files that cannot be read are left out with a warning, and refused with
--strict. Results of different extractors cannot be compared: the extractor and its checksum are printed. For FID either
side can be an .npz of 'mu' and 'sigma', as pytorch-fid writes it.
Statistics of real images are cached in ~/.cache/iso-diffusion/statistics.

Points: a pipeline is compared in its own units: the real points are scaled as its training data was. Two files are
compared after scaling both by the minimum and maximum of the real points.

Perceptual path length: --ppl --ppl-lpips-weights weights-vgg16-lpips.pth --fake runs/digits/pipeline --scheduler ddim. It is of
the pipeline alone, which must not add noise. docs/metrics.md says where the file of weights is.`,
  );
  addOptions(command, options).action(async (flags) => {
    const settings = await readSettings(options, flags);
    await (settings.ppl ? evaluatePathLength(settings) : printEvaluation(settings));
  });
}

/** What `--ppl` goes by, and what has a default. */
const WITH_PPL = new Set([
  ...Object.keys(pathLengthOptions),
  ...['fake', 'json', 'n', 'batch_size', 'seed', 'device', 'steps', 'scheduler', 'class_labels', 'k', 'data_seed'],
]);

/** `--ppl`: the generator alone. */
async function evaluatePathLength(settings: EvaluateSettings): Promise<void> {
  const others = (Object.keys(options) as (keyof typeof options)[]).filter((key) => !WITH_PPL.has(key));
  const flag = givenFlag(settings, others);
  if (flag !== undefined)
    throw new InvalidArgumentError(
      `--ppl measures the generator alone, and ${flag} is for other metrics: evaluate these by themselves`,
    );
  const { n: num_samples, batch_size, seed, device, steps: num_inference_steps, scheduler } = settings;
  const generation = { num_inference_steps, scheduler, class_labels: labelsInTurn(settings) };
  await printPathLength(settings, { num_samples, batch_size, seed, device, generation });
}

async function printEvaluation(settings: EvaluateSettings): Promise<void> {
  refuseWithoutPpl(settings);
  const { json, plot } = settings;
  // Pictures are made of images that one process has seen.
  const isShared = plot === undefined && settings.contact_sheets === undefined;
  const ranks = isShared ? world() : SINGLE;
  if (!isShared && world().rank > 0) return;
  if (!settings.real) throw new InvalidArgumentError('option --real <sources...>: name a data set');
  const real = await realInput(settings.real);
  const report = await withInterrupt('interrupted', (signal) =>
    withStageBars(async (on_progress) => {
      const on_warning = (message: string) => void process.stderr.write(`warning: ${message}\n`);
      const given = { ...(await evaluateOptions(real, settings)), on_progress, on_warning, signal };
      return plot === undefined ? evaluateWith(given, new Map(), ranks) : evaluateAndPlot(given, plot);
    }),
  );
  // Every rank has the same report.
  if (ranks.rank > 0) return;
  for (const file of report.contact_sheets?.files ?? []) process.stderr.write(`contact sheets: ${file}\n`);
  if (json === true) console.log(JSON.stringify(flatReport(report)));
  else console.log(reportTables(report));
  if (typeof json === 'string') {
    await writeFileAtomic(json, `${JSON.stringify(flatReport(report), undefined, 2)}\n`);
    process.stderr.write(`report: ${json}\n`);
  }
}

/** @throws {InvalidArgumentError} for several sources that are not all files of statistics. */
async function realInput(sources: readonly string[]): Promise<RealInput> {
  const [source = ''] = sources;
  if (sources.length === 1) return source;
  const other = sources.find((name) => !name.endsWith('.npz'));
  if (other !== undefined)
    throw new InvalidArgumentError(`--real: only .npz files can be merged, and '${other}' is not one`);
  return mergeStatistics(...(await Promise.all(sources.map(readStatistics))));
}

async function evaluateOptions(real: RealInput, settings: EvaluateSettings): Promise<EvaluateOptions> {
  const { scheduler, fake, logits_extractor, device, seed, data_seed } = settings;
  return {
    real,
    fake,
    metrics: settings.metrics,
    // `evaluate` refuses values that are not a metric's.
    metric_options: {
      ...givenMetricOptions(settings),
      ...((await jsonObject('--metric-options', settings.metric_options)) as MetricOptions),
    },
    ...namedExtractor(settings),
    logits_extractor,
    split: settings.split,
    fake_split: settings.fake_split,
    dataset_config_name: settings.dataset_config_name,
    dataset_revision: settings.dataset_revision,
    num_samples: settings.n,
    num_real: settings.n_real,
    nearest_k: settings.k,
    seed,
    data_seed,
    device,
    contact_sheets: settings.contact_sheets,
    generation: {
      num_inference_steps: settings.steps,
      scheduler,
      class_labels: labelsInTurn(settings),
    },
  };
}

function labelsInTurn({ class_labels, n = DEFAULT_SAMPLES }: EvaluateSettings): number[] | undefined {
  if (class_labels === undefined) return undefined;
  return Array.from({ length: n }, (_, i) => class_labels[i % class_labels.length] ?? 0);
}

/** For points only. The plot shows what was compared. */
async function evaluateAndPlot(given: EvaluateOptions, plot: string): Promise<EvaluationReport> {
  const sides = [await identify('real', given.real), await identify('fake', given.fake)] as const;
  if (sides.some(({ kind }) => kind !== 'points' && kind !== 'point-pipeline'))
    throw new InvalidArgumentError('--plot draws points; of images, `generate` makes a grid');
  const points = await loadPointPair(...sides, checkedSettings(given), given);
  const report = await evaluate({ ...given, ...points });
  const svg = await scatterPlot({ ...points, title: 'generated over real' });
  const files = await writePlot(plot.replace(/\.(svg|png)$/, ''), svg);
  for (const file of files) process.stderr.write(`plot: ${file}\n`);
  return report;
}

/** One flat object: the metrics, and what was compared. */
function flatReport({ metrics, real, fake, settings, ...extractors }: EvaluationReport) {
  const { nearest_k, ...others } = settings;
  return {
    ...metrics,
    ...(nearest_k === undefined ? {} : { k: nearest_k }),
    real_count: real.count,
    fake_count: fake.count,
    real: real.name,
    fake: fake.name,
    ...(real.skipped ? { real_skipped: real.skipped } : {}),
    ...(fake.skipped ? { fake_skipped: fake.skipped } : {}),
    ...extractors,
    settings: others,
  };
}

function setText({ name, count, skipped }: EvaluatedSet): string {
  return `${name} (${count ?? 'unknown count'}${skipped ? `, ${skipped.length} left out` : ''})`;
}

function reportTables(report: EvaluationReport): string {
  const { metrics, real, fake, extractor, metric_extractors = {}, logits_extractor, settings, warnings = [] } = report;
  const facts = [
    ['real', setText(real)],
    ['fake', setText(fake)],
    ['extractor', extractor.name],
    ['checksum', extractor.checksum || 'unknown'],
  ];
  for (const [metric, { name, checksum }] of Object.entries(metric_extractors))
    facts.push([`of ${metric}`, name], ['checksum', checksum]);
  if (logits_extractor) facts.push(['logits', logits_extractor.name], ['checksum', logits_extractor.checksum]);
  for (const [name, value] of Object.entries(settings)) facts.push([name, String(value)]);
  const tables = [formatTable(['metric', 'value'], Object.entries(metrics)), formatTable(['of', ''], facts)];
  return [...tables, ...warnings.map((warning) => `Warning: ${warning}.`)].join('\n\n');
}
