import type { Command } from 'commander';
import { world } from '#distributed/world';
import { SINGLE } from '../../distributed/communicator.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { evaluate, evaluateOnRanks, evaluateShare, mergeEvaluation } from '../../evaluation/evaluate.ts';
import { identify, loadPointPair } from '../../evaluation/inputs.ts';
import {
  checkedSettings,
  DEFAULT_SAMPLES,
  type EvaluateOptions,
  type EvaluationReport,
  type RealInput,
} from '../../evaluation/options.ts';
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
  conditionFiles,
  conditionOption,
  deviceOption,
  extractorOptions,
  namedExtractor,
  parsedShare,
  type Share,
  schedulerOption,
  shareOption,
} from '../options/shared-options.ts';
import { printReport } from '../ui/evaluation-report.ts';
import { printWarning, withStageBars } from '../ui/progress.ts';
import { pathLengthOptions, printPathLength, refuseWithoutPpl } from './path-length.ts';

const options = {
  real: listOption(
    'files',
    '--real <sources...>',
    z.optional(z.array(z.string(), 'name a data set').check(z.minLength(1, 'name a data set'))),
    'the real samples, which all but --ppl need; several .npz files are merged',
  ),
  fake: option('--fake <source>', z.optional(z.string()), 'the generated samples, which all but --merge need'),
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
  condition: conditionOption(),
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
  share: shareOption('take the features of the i-th of n parts alone, such as 1/4, and write them to --out'),
  out: option('--out <file>', z.optional(z.string()), 'the .safetensors file of a --share'),
  merge: listOption(
    'files',
    '--merge <files...>',
    z.optional(z.array(z.string())),
    'compute the metrics from the files of all shares instead',
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

Without MPI, several processes share the images, and a last command has the result:
  iso-diffusion evaluate --real photos --fake generated --share 1/2 --out part-1.safetensors
  iso-diffusion evaluate --real photos --fake generated --share 2/2 --out part-2.safetensors
  iso-diffusion evaluate --merge part-1.safetensors part-2.safetensors

Images: a folder, .tar, .parquet, IDX or CIFAR-10 file, digits, mnist-10k, emoji, oxford-flowers-102, oxford-iiit-pet,
owner/name of a data set of the Hub, or a pipeline.
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
    if (settings.merge) await printMerged(settings, settings.merge);
    else await (settings.ppl ? evaluatePathLength(settings) : printEvaluation(settings));
  });
}

/** What `--merge` goes by, and what has a default. */
const WITH_MERGE = new Set(['merge', 'json', 'batch_size', 'seed', 'device', 'k', 'data_seed']);

/** `--merge`: the shares say what was compared. */
async function printMerged(settings: EvaluateSettings, files: readonly string[]): Promise<void> {
  const others = (Object.keys(options) as (keyof typeof options)[]).filter((key) => !WITH_MERGE.has(key));
  const flag = givenFlag(settings, others);
  if (flag !== undefined)
    throw new InvalidArgumentError(
      `--merge computes what the shares were made for, so ${flag} has no effect: leave it out`,
    );
  if (world().rank > 0) return;
  const report = await withInterrupt('interrupted', (signal) =>
    withStageBars((on_progress) => mergeEvaluation(files, { on_progress, signal })),
  );
  await printReport(report, settings.json);
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
  await printPathLength(
    { ...settings, fake: fakeInput(settings) },
    { num_samples, batch_size, seed, device, generation },
  );
}

async function printEvaluation(settings: EvaluateSettings): Promise<void> {
  refuseWithoutPpl(settings);
  const { json, plot, out } = settings;
  const share = parsedShare(settings.share);
  refuseHalfOfShare(share, settings);
  // Pictures are made of images that one process has seen.
  const isShared = plot === undefined && settings.contact_sheets === undefined;
  const ranks = isShared ? world() : SINGLE;
  if (!isShared && world().rank > 0) return;
  if (!settings.real) throw new InvalidArgumentError('option --real <sources...>: name a data set');
  const real = await realInput(settings.real);
  const report = await withInterrupt('interrupted', (signal) =>
    withStageBars(async (on_progress) => {
      const given = { ...(await evaluateOptions(real, settings)), on_progress, on_warning: printWarning, signal };
      if (share && out) return evaluateShare(given, share, out);
      return plot === undefined ? evaluateOnRanks(given, ranks) : evaluateAndPlot(given, plot);
    }),
  );
  if (report) await printReport(report, json);
  else if (share && out)
    console.log(`${out}: share ${settings.share}. When all are done: evaluate --merge with their files`);
}

/** @throws {InvalidArgumentError} for a share without a file, a file without a share, and what a share cannot do. */
function refuseHalfOfShare(share: Share | undefined, { out, plot, json }: EvaluateSettings): void {
  if (share && out === undefined)
    throw new InvalidArgumentError('--share needs --out, the .safetensors file for what the share finds');
  if (!share && out !== undefined)
    throw new InvalidArgumentError('--out is the file of a --share: add that, or use --json');
  if (share && (plot !== undefined || json !== false))
    throw new InvalidArgumentError('a --share has no result yet: give --plot or --json to another command');
  if (share && world().size > 1)
    throw new InvalidArgumentError('ranks of mpirun share the images by themselves: leave out --share');
}

/** @throws {InvalidArgumentError} without `--fake`. */
function fakeInput({ fake }: EvaluateSettings): string {
  if (fake !== undefined) return fake;
  throw new InvalidArgumentError('option --fake <source>: name a pipeline, a folder or a file');
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
  const { scheduler, logits_extractor, device, seed, data_seed } = settings;
  return {
    real,
    fake: fakeInput(settings),
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
      condition: await conditionFiles(settings.condition, settings.n ?? DEFAULT_SAMPLES),
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
