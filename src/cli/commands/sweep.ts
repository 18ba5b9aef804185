import path from 'node:path';
import type { Command } from 'commander';
import { POINT_SET_NAMES } from '../../datasets/named-data-set.ts';
import { reportSweep, type SweepReport, sweep } from '../../experiments/sweep/sweep.ts';
import { UNET_2D_PRESETS } from '../../models/unet-2d/presets.ts';
import { InterruptedError } from '../../terminal/interrupt.ts';
import { duration } from '../../terminal/progress.ts';
import * as z from '../../zod.ts';
import { addOptions, grouped, listOption, option, readSettings, type Settings } from '../options/command-options.ts';
import { deviceOption } from '../options/shared-options.ts';
import { withProgress } from '../ui/progress.ts';

const count = z.optional(z.int().check(z.gte(1)));
const SECONDS = { s: 1, m: 60, h: 3600 } as const;

/** "90s", "30m" or "2h" in seconds. */
const durationSchema = z.pipe(
  z.string().check(z.regex(/^\d+(\.\d+)?[smh]$/, 'must be a time such as 90s, 30m or 2h')),
  z.transform((text) => Number.parseFloat(text) * SECONDS[text.slice(-1) as keyof typeof SECONDS]),
);

const shardSchema = z.pipe(
  z.string().check(z.regex(/^\d+\/\d+$/, 'must be INDEX/COUNT, such as 0/4')),
  z.transform((text): [number, number] => [Number.parseInt(text, 10), Number(text.slice(text.indexOf('/') + 1))]),
);

const options = {
  ...grouped('Sweep:', {
    dataset: option(
      '--dataset <name|path|hub-id>',
      z._default(z.string(), 'swiss-roll'),
      `points: ${POINT_SET_NAMES.join(', ')} or a file; images: digits, mnist-10k, emoji, a folder or file, owner/name`,
    ),
    lambda: listOption(
      'names',
      '--lambda <weights...>',
      z.optional(z.array(z.number())),
      'weights of the penalty; 0 is always among them (default: 0 0.01 0.05 0.1 0.2)',
    ),
    seeds: option('--seeds <count>', count, 'runs of each weight; intervals need 2 (default: 5)'),
    seed: option(
      '--seed <seed>',
      z._default(z.int().check(z.gte(0)), 0),
      'seed of the first run; each further run adds 1',
    ),
    at_sampling: option(
      '--at-sampling',
      z._default(z.boolean(), false),
      'train with weight 0 alone, and draw every weight from these models',
    ),
    budget: option('--budget <time>', z.optional(durationSchema), 'plan epochs and seeds that fit: 90s, 30m, 2h'),
  }),
  ...grouped('Runs:', {
    num_train_epochs: option(
      '--epochs, --num-train-epochs <count>',
      count,
      'epochs (default: points 1000, images 100)',
    ),
    per_device_train_batch_size: option(
      '--batch-size, --per-device-train-batch-size <count>',
      count,
      'samples per batch (default: points 512, images 16)',
    ),
    learning_rate: option('--lr, --learning-rate <rate>', z.optional(z.number()), 'default: points 1e-3, images 2e-4'),
    num_inference_steps: option('--steps <count>', count, 'sampling steps (default: points 1000, images 250)'),
    nearest_k: option('--nearest-k <k>', count, 'k of Precision, Recall, Density and Coverage (default: 5)'),
    device: deviceOption('cpu'),
    jobs: option('--jobs <count>', count, 'runs at a time (default: on the cpu one per core, else 1)'),
  }),
  ...grouped('Points:', {
    n: option('--n <count>', count, 'points of a synthetic set, or the first of a file (default: 10000, or all)'),
  }),
  ...grouped('Images:', {
    resolution: option('--resolution <side>', count, 'side of the images in pixels (default: 64)'),
    // The names that `train` takes too.
    model: option(
      '--model <name>',
      z.optional(z.enum(UNET_2D_PRESETS)),
      `${UNET_2D_PRESETS.join(', ')} (default: small)`,
    ),
    samples: option('--samples <count>', count, 'generated images (default: as many as real ones)'),
    extractor: option('--extractor <spec>', z.optional(z.string()), 'features of the metrics (default: inception)'),
  }),
  ...grouped('Output:', {
    output: option('--output <folder>', z.optional(z.string()), 'output folder (default: runs/sweep-DATASET)'),
    resume: option('--resume', z._default(z.boolean(), false), 'continue with what is in the output folder'),
    shard: option(
      '--shard <index/count>',
      z.optional(shardSchema),
      'share of the seeds, for several processes or machines',
    ),
    report_only: option('--report-only', z._default(z.boolean(), false), 'run nothing, report the finished runs'),
  }),
};

export function defineSweep(command: Command): void {
  command.addHelpText(
    'after',
    `
Examples:
  iso-diffusion sweep --dataset swiss-roll --lambda 0.05 0.1 --seeds 3 --budget 10m
  iso-diffusion sweep --dataset points.csv --at-sampling
  iso-diffusion sweep --dataset ./photos --resolution 32 --extractor raw-pixels --seeds 3 --resume
  iso-diffusion sweep --dataset moons --shard 0/2 & iso-diffusion sweep --dataset moons --shard 1/2

Writes sweep.html, sweep.md, sweep.json and sweep.csv. Runs of the same seed have the same data, initial weights, training
noise and sampling noise. Every weight is also applied to the model without the penalty when it draws. Ctrl-C saves
checkpoints; --resume continues, also after a kill, with the same outcome.`,
  );
  addOptions(command, options).action(async (flags) => runSweep(await readSettings(options, flags)));
}

async function runSweep({ output, budget, report_only, ...settings }: Settings<typeof options>): Promise<void> {
  const output_dir = output ?? path.join('runs', `sweep-${path.parse(settings.dataset).name}`);
  const report = report_only
    ? await reportSweep(output_dir)
    : await withProgress(
        'sweep',
        (watch) => sweep({ ...settings, ...watch, output_dir, budget_seconds: budget }),
        STOPPING,
      ).catch((error: unknown) => {
        if (!(error instanceof InterruptedError)) throw error;
        throw new InterruptedError('stopped; continue with --resume');
      });
  console.log(reportText(report, budget));
}

const STOPPING = 'interrupted: saving checkpoints (Ctrl-C again exits at once)';

function reportText(
  { advice, num_train_epochs, seeds, unfinished, files }: SweepReport,
  budget: number | undefined,
): string {
  return [
    advice,
    ...(budget === undefined ? [] : [`Within ${duration(budget)}: ${num_train_epochs} epochs, ${seeds} seeds.`]),
    ...(unfinished > 0 ? [`${unfinished} runs are not finished.`] : []),
    `written: ${files.join(', ')}`,
  ].join('\n');
}
