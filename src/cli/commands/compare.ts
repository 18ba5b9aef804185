import type { Command } from 'commander';
import { type CompareReport, compareRuns } from '../../experiments/compare/compare.ts';
import { metrics } from '../../metrics/registry.ts';
import * as z from '../../zod.ts';
import { addOptions, grouped, listOption, option, readSettings, type Settings } from '../options/command-options.ts';
import { deviceOption, schedulerOption } from '../options/shared-options.ts';
import { printWarning, withProgress } from '../ui/progress.ts';

const count = z.optional(z.int().check(z.gte(1)));

const options = {
  output: option('--output <folder>', z._default(z.string(), 'runs/compare'), 'output folder'),
  ...grouped('Metrics:', {
    dataset: option(
      '--dataset <name|path|hub-id>',
      z.optional(z.string()),
      'real samples to measure all runs against (default: what the runs measured themselves is shown)',
    ),
    metrics: listOption(
      'names',
      '--metrics <names...>',
      z.optional(z.array(z.string()).check(z.minLength(1, 'name a metric'))),
      `${metrics.names().join(', ')}, or registered ones (default: images fid,kid,prdc; points prdc)`,
    ),
    num_samples: option(
      '--n <count>',
      count,
      'samples to measure each run with (default: images 10000, points as many as real ones)',
    ),
    extractor: option('--extractor <spec>', z.optional(z.string()), 'features of images (default: inception)'),
    resolution: option('--resolution <side>', count, 'side of the real images (default: that of the drawn ones)'),
    nearest_k: option('--nearest-k <k>', count, 'k of Precision, Recall, Density and Coverage (default: 5)'),
  }),
  ...grouped('Samples:', {
    sample_count: option(
      '--sample-count <count>',
      z.optional(z.int().check(z.gte(0))),
      'samples in the picture of each run; 0: none (default: points 1000, images 16)',
    ),
    num_inference_steps: option('--steps <count>', count, 'sampling steps (default: 50)'),
    scheduler: { ...schedulerOption(), description: 'how all runs draw (default: DDIM with the betas of each run)' },
    seed: option('--seed <seed>', z._default(z.int().check(z.gte(0)), 0), 'seed of what is drawn'),
    device: deviceOption(),
  }),
};

export function defineCompare(command: Command): void {
  command
    .argument('<runs...>', 'folders of train, of runs of sweep or reproduce (OUTPUT/jobs/NAME), or of pipelines')
    .addHelpText(
      'after',
      `
Examples:
  iso-diffusion compare runs/ddpm runs/iso --output runs/ddpm-and-iso
  iso-diffusion compare runs/ddpm runs/iso --dataset swiss-roll --n 2000
  iso-diffusion compare runs/ddpm-0 runs/ddpm-1 runs/iso-0 runs/iso-1
  iso-diffusion compare runs/sweep/jobs/moons-lambda-0-seed-* runs/sweep/jobs/moons-lambda-0.1-seed-*

Writes compare.html, compare.md, compare.json and compare.csv. Changes are against the first run. Runs that differ in the
seed alone are one side: with several runs a side, changes are over pairs of the same seed, with their intervals.`,
    );
  addOptions(command, options).action(async (runs: string[], flags) =>
    printComparison(runs, await readSettings(options, flags)),
  );
}

async function printComparison(runs: string[], { output, ...settings }: Settings<typeof options>): Promise<void> {
  const report = await withProgress('compare', (watch) =>
    compareRuns({ ...settings, ...watch, runs, on_warning: printWarning, output_dir: output }),
  );
  console.log(reportText(report));
}

function reportText({ summary, warnings, files }: CompareReport): string {
  return [summary, ...warnings.map((warning) => `Warning: ${warning}.`), `written: ${files.join(', ')}`].join('\n');
}
