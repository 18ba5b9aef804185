import type { Command } from 'commander';
import { describedImages } from '../../datasets/images/described-images.ts';
import { dataSetKind } from '../../datasets/named-data-set.ts';
import { exists } from '../../files/regular-file.ts';
import { HUB_ID } from '../../hub/hub-options.ts';
import { duration } from '../../terminal/progress.ts';
import type { TrainingEstimate } from '../../trainers/estimate/estimate.ts';
import * as z from '../../zod.ts';
import {
  addOptions,
  givenFlag,
  grouped,
  listOption,
  option,
  readSettings,
  type Settings,
} from '../options/command-options.ts';
import { schedulerOption } from '../options/shared-options.ts';
import { formatTable } from '../ui/table.ts';
import { chosenLoss, type DatasetName, newTrainer, refuseOptionsOfOtherKind, trainOptions } from './train/train.ts';
import { type GetImages, imageLoading, imageOptions } from './train/train-images.ts';

const options = {
  ...grouped('Estimate:', {
    memory: option(
      '--memory <GiB>',
      z.optional(z.number().check(z.positive())),
      'memory that a batch has to fit into (default: that of this machine, or of its card)',
    ),
    batch_sizes: listOption(
      'names',
      '--batch-sizes <counts...>',
      z.optional(z.array(z.int().check(z.gte(1))).check(z.minLength(1))),
      'batch sizes to list (default: 1, 2, 4, ... 512)',
    ),
    measure_seconds: option(
      '--measure-seconds <seconds>',
      z._default(z.number().check(z.gte(0), z.lte(600)), 10),
      'how long real steps are taken',
    ),
    measure: option('--no-measure', z.boolean(), 'take no steps: go by what other machines reached'),
    samples: option(
      '--samples <count>',
      z.optional(z.int().check(z.gte(1))),
      'samples to draw afterwards (default: points 10000, images 64)',
    ),
    scheduler: schedulerOption(),
    steps: option(
      '--steps <count>',
      z.optional(z.int().check(z.gte(1))),
      "steps of drawing (default: the scheduler's)",
    ),
    json: option('--json', z._default(z.boolean(), false), 'print JSON'),
  }),
  ...trainOptions,
  dataset: { ...trainOptions.dataset, schema: z.optional(z.string()) },
};
type EstimateSettings = Settings<typeof options>;

export function defineEstimate(command: Command): void {
  command.addHelpText(
    'after',
    `
Examples:
  iso-diffusion estimate --dataset ./photos --resolution 64 --model ddpm-64 --batch-size 16 --ema
  iso-diffusion estimate --resolution 32 --n 60000 --model ddpm-cifar10 --batch-size 128 --epochs 100
  iso-diffusion estimate --resolution 64 --n 8000 --model ddpm-64 --device cuda --memory 24 --no-measure
  iso-diffusion estimate --dataset swiss-roll --json

Put estimate in the place of train in a command: it takes the same options, and refuses what train would refuse.
Images are counted, and neither decoded nor downloaded; without --dataset, --n says how many there will be.
Steps are taken for about --measure-seconds, on this machine and in memory. Nothing is written.`,
  );
  addOptions(command, options).action(async (flags) => estimate(await readSettings(options, flags)));
}

async function estimate(settings: EstimateSettings): Promise<void> {
  const { dataset, measure, memory, scheduler, steps, samples, batch_sizes, json } = settings;
  const named = await namedData(dataset, settings);
  const ofTrain = { ...settings, dataset: named.source };
  refuseOptionsOfOtherKind(named, ofTrain);
  const loss = await chosenLoss(named, ofTrain);
  const lines: string[] = [];
  const get: GetImages = (source, wanted, resolution, channels) =>
    describedImages(source === named.source ? dataset : source, {
      ...imageLoading(wanted, resolution, channels),
      unknownCount: settings.max_steps === undefined ? undefined : 1,
    });
  const print = (line: string) => void lines.push(line);
  const trainer = await newTrainer(named, ofTrain, loss, { callbacks: [], loggers: [] }, { get, print });
  const found = await trainer.estimate({
    batch_sizes,
    memory_bytes: memory === undefined ? undefined : memory * GIB,
    measure_seconds: measure ? settings.measure_seconds : 0,
    num_samples: samples,
    scheduler,
    num_inference_steps: steps,
  });
  if (json) console.log(JSON.stringify(found, undefined, 2));
  else console.log([...lines, asText(found)].join('\n'));
}

const GIB = 2 ** 30;

/** Without `--dataset` it is what `train` takes, unless images were spoken of. A set of the Hub is taken for images. */
async function namedData(source: string | undefined, settings: EstimateSettings): Promise<DatasetName> {
  if (source === undefined) {
    const ofImages = givenFlag(settings, ['model', ...Object.keys(imageOptions)] as (keyof EstimateSettings)[]);
    return ofImages ? { kind: 'images', source: 'the images' } : { kind: 'points', source: 'swiss-roll' };
  }
  if (HUB_ID.test(source) && !(await exists(source))) return { kind: 'images', source };
  return { kind: await dataSetKind(source), source };
}

function asText(found: TrainingEstimate): string {
  const { run, measured, available_bytes, batches, sampling, max_steps, steps_per_epoch } = found;
  const fitting = batches.filter(({ fits }) => fits).at(-1);
  const there = available_bytes === undefined ? '' : ` of the ${gib(available_bytes)} that there are`;
  const how = measured
    ? `measured on ${found.device}: ${measured.steps} steps of batch ${measured.batch_size}`
    : `not measured: as other machines reached it on ${found.device}`;
  const table = formatTable(
    ['batch', 'memory', 'fits', 'a step', 'samples/s'],
    batches.map(({ batch_size, memory_bytes, fits, step_seconds, samples_per_second }) => [
      batch_size,
      gib(memory_bytes),
      fits === undefined ? '?' : fits ? 'yes' : 'no',
      shortTime(step_seconds),
      rounded(samples_per_second),
    ]),
  );
  return [
    `parameters: ${found.parameters}`,
    `a step: ${shortTime(run.step_seconds)}, ${rounded(found.flops_per_step / 1e9)} GFLOP (${how})`,
    `the run: ${max_steps} steps, ${rounded(max_steps / steps_per_epoch)} epochs: ${duration(found.training_seconds)}`,
    `memory: ${gib(run.memory_bytes)}${there}`,
    `drawing ${sampling.num_samples} samples, ${sampling.scheduler} in ${sampling.evaluations} evaluations: ${duration(sampling.seconds)}`,
    '',
    table,
    ...(fitting ? ['', `the largest of these batches that fits: ${fitting.batch_size}`] : []),
    ...(run.fits === false ? [`batch ${run.batch_size} does not fit: see docs/how-long.md for what to change`] : []),
  ].join('\n');
}

const gib = (bytes: number) => `${(bytes / GIB).toFixed(1)} GiB`;

/** To three digits. */
const rounded = (value: number) => String(Number(value.toPrecision(3)));

const shortTime = (seconds: number) =>
  seconds < 1 ? `${(1000 * seconds).toPrecision(3)} ms` : `${seconds.toPrecision(3)} s`;
