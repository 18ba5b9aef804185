import { availableParallelism } from 'node:os';
import path from 'node:path';
import type { Command } from 'commander';
import { z } from 'zod';
import { InvalidArgumentError } from '../errors.ts';
import type { Job } from '../reproduction/job.ts';
import { withOutputLock } from '../reproduction/output-lock.ts';
import { checkPictureSettings, parsePictureSet } from '../reproduction/picture-sets.ts';
import { PRESET_SETTINGS, PRESETS } from '../reproduction/presets.ts';
import { finishedResults, reportOf } from '../reproduction/reports.ts';
import { type JobRun, jobRuns, prepareJobs, runJobs, unfinishedJobs } from '../reproduction/run-jobs.ts';
import { summariseRuns } from '../reproduction/run-summary.ts';
import { isPictureTarget, pictureJobs, pointJobs, TARGETS, type Target } from '../reproduction/targets.ts';
import { writeCombinedReport, writeTargetReport } from '../reproduction/write-reports.ts';
import { DEVICES, resolveDevice } from '../runtime/device.ts';
import { addOptions, option, readSettings, type Settings } from './command-options.ts';
import { InterruptedError, withInterrupt } from './interrupt.ts';
import { nearestKey } from './nearest-key.ts';
import { progressBar } from './progress.ts';

const wholeNumber = z.int().min(1);

/** Options of pictures alone. */
const pictureOptions = {
  data: option(
    '--data <sources...>',
    z.array(z.string().min(1)).optional(),
    'pictures, [NAME=]SOURCE: digits, oxford-flowers-102, oxford-iiit-pet, or a folder or file; also a folder with the archive of an Oxford set (default: both Oxford sets; smoke: digits)',
  ),
  lambda: option(
    '--lambda <weight>',
    z.number().positive().refine(Number.isFinite, 'must be finite').optional(),
    'weight of the penalty for pictures (0.05)',
  ),
  resolution: option('--resolution <side>', wholeNumber.optional(), 'side of the pictures (64; smoke: 8)'),
  samples: option(
    '--samples <count>',
    z.int().min(6).optional(),
    'generated pictures (as many as real ones; smoke: 256)',
  ),
  extractor: option(
    '--extractor <spec>',
    z.string().min(1).optional(),
    'features of FID, Precision, ...: inception, raw-pixels, FILE.onnx[:OUTPUT] or a transformers.js model (inception; smoke: raw-pixels)',
  ),
  logits_extractor: option(
    '--logits-extractor <spec>',
    z.string().min(1).optional(),
    'class logits of the Inception Score (with the extractor inception: its own; else none)',
  ),
};

const options = {
  preset: option('--preset <name>', z.enum(PRESETS).default('paper'), 'paper, or smoke: tiny, for a try'),
  runs: option('--runs <count>', wholeNumber.optional(), 'runs to average over (3; smoke: 2)'),
  epochs: option('--epochs <count>', wholeNumber.optional(), 'epochs (1000; smoke: 100, pictures 6)'),
  seed: option('--seed <seed>', z.int().min(0).default(0), 'seed of the first run; the others count on'),
  points: option(
    '--points <count>',
    z.int().min(6).optional(),
    'real and generated points (10000; smoke: 2000)',
  ),
  batch_size: option(
    '--batch-size <count>',
    wholeNumber.optional(),
    'batch (512, pictures 64; smoke: 256, pictures 32)',
  ),
  steps: option(
    '--steps <count>',
    z.int().min(1).max(1000).optional(),
    'sampling steps (1000; smoke: 250, pictures 50)',
  ),
  jobs: option('--jobs <count>', wholeNumber.optional(), 'runs at a time (cpu: one a core; else 1)'),
  device: option('--device <name>', z.enum(DEVICES).default('cpu'), DEVICES.join(', ')),
  ...pictureOptions,
  output: option('--output <folder>', z.string().min(1).optional(), 'where to write (runs/reproduce-PRESET)'),
  resume: option('--resume', z.boolean().default(false), 'go on with what is in the output folder'),
  report: option(
    '--report <file>',
    z.string().regex(/\.md$/, 'must end in .md').optional(),
    'also one Markdown file of all targets, with its plots in images/ beside it',
  ),
  report_only: option('--report-only', z.boolean().default(false), 'run nothing: report what is finished'),
};

export function addReproduceCommand(program: Command): void {
  const command = program
    .command('reproduce <targets...>')
    .description(
      `Reproduce tables and figures of the paper: train, sample, measure, average over runs, and report beside its figures. Targets: ${TARGETS.join(', ')}.`,
    )
    .addHelpText(
      'after',
      `
Examples:
  iso-diffusion reproduce table-1 --preset smoke
  iso-diffusion reproduce table-1 table-2 table-3 table-4 table-5 figure-1 section-4
  iso-diffusion reproduce table-2 --runs 5 --jobs 8 --resume
  iso-diffusion reproduce table-6 figure-2 --data oxford-flowers-102=./flowers --device cuda
  iso-diffusion reproduce table-6 --preset smoke --data ./photos --resolution 32 --extractor model.onnx:features

Writes TARGET.md, .json, .csv and plots. Every run is a process of its own, on the cpu with one thread, and lies in
OUTPUT/jobs; targets that need the same runs share them. The result does not depend on --jobs. Ctrl-C saves
checkpoints; --resume goes on, also after a kill, and the outcome is the same.`,
    );
  addOptions(command, options).action(async (targets: string[], flags) =>
    reproduce(targets.map(parseTarget), await readSettings(options, flags)),
  );
}

type ReproduceSettings = Settings<typeof options>;

function parseTarget(name: string): Target {
  const target = TARGETS.find((known) => known === name);
  if (target) return target;
  const near = nearestKey(name, TARGETS);
  throw new InvalidArgumentError(
    `the target '${name}' is unknown${near ? `; did you mean '${near}'?` : ''} (known: ${TARGETS.join(', ')})`,
  );
}

async function reproduce(given: readonly Target[], settings: ReproduceSettings): Promise<void> {
  const targets = [...new Set(given)];
  refuseUnusedOptions(targets, settings);
  const output = settings.output ?? path.join('runs', `reproduce-${settings.preset}`);
  const runs = jobRuns(output, [
    ...pointJobsOf(targets, settings),
    ...(targets.some(isPictureTarget) ? await pictureJobsOf(settings) : []),
  ]);
  if (settings.report_only) {
    await unfinishedJobs(runs);
    await writeReports(targets, runs, output, settings.report);
    return;
  }
  await resolveDevice(settings.device);
  const failed = await withOutputLock(output, async () => {
    const open = await prepareJobs(runs, settings.resume);
    const failures = await runAll(open, settings);
    await writeReports(targets, runs, output, settings.report);
    return failures;
  });
  if (failed.length > 0)
    throw new Error(
      `${failed.length} of ${runs.length} runs failed, and the reports are without them:\n${failed.join('\n')}\nTry again with --resume.`,
    );
}

function refuseUnusedOptions(targets: readonly Target[], settings: ReproduceSettings): void {
  const given = (keys: readonly (keyof ReproduceSettings)[]) =>
    keys.find((key) => settings[key] !== undefined);
  const unused = [
    targets.some(isPictureTarget)
      ? undefined
      : given(Object.keys(pictureOptions) as (keyof typeof pictureOptions)[]),
    targets.every(isPictureTarget) ? given(['points']) : undefined,
  ].find((key) => key !== undefined);
  if (unused)
    throw new InvalidArgumentError(
      `--${unused.replaceAll('_', '-')} is given, but ${targets.join(', ')} ${targets.length > 1 ? 'have' : 'has'} no use for it: ${unused === 'points' ? 'it is for tables and figures on points' : 'it is for table-6 and figure-2'}`,
    );
}

function seedsOf({ preset, runs = PRESET_SETTINGS[preset].runs, seed }: ReproduceSettings): number[] {
  return Array.from({ length: runs }, (_, run) => seed + run);
}

function pointJobsOf(targets: readonly Target[], settings: ReproduceSettings): Job[] {
  const base = PRESET_SETTINGS[settings.preset].points;
  return pointJobs(targets, seedsOf(settings), {
    ...base,
    points: settings.points ?? base.points,
    epochs: settings.epochs ?? base.epochs,
    batch_size: settings.batch_size ?? base.batch_size,
    num_inference_steps: settings.steps ?? base.num_inference_steps,
    device: settings.device,
  });
}

async function pictureJobsOf(settings: ReproduceSettings): Promise<Job[]> {
  const preset = PRESET_SETTINGS[settings.preset];
  const sets = settings.data ? await Promise.all(settings.data.map(parsePictureSet)) : preset.pictureSets;
  const twice = sets.find(({ name }, i) => sets.findIndex((other) => other.name === name) !== i);
  if (twice)
    throw new InvalidArgumentError(`--data has two sets named '${twice.name}': name them apart, NAME=PATH`);
  const extractor = settings.extractor ?? preset.pictures.extractor;
  const ownLogits = extractor === 'inception' ? 'inception:logits_unbiased' : null;
  const samples = settings.samples ?? preset.pictures.samples;
  const pictures = {
    ...preset.pictures,
    resolution: settings.resolution ?? preset.pictures.resolution,
    samples,
    extractor,
    logits_extractor: settings.logits_extractor ?? ownLogits,
    is_splits: Math.min(preset.pictures.is_splits, samples ?? Number.POSITIVE_INFINITY),
    epochs: settings.epochs ?? preset.pictures.epochs,
    batch_size: settings.batch_size ?? preset.pictures.batch_size,
    num_inference_steps: settings.steps ?? preset.pictures.num_inference_steps,
    device: settings.device,
  };
  if (!settings.report_only) {
    const bar = progressBar('pictures', 1000);
    try {
      await checkPictureSettings(sets, pictures, ({ name }, done, total) =>
        bar.update(total ? Math.round((1000 * done) / total) : 0, `${name}: ${done}`),
      );
    } finally {
      bar.stop();
    }
  }
  return pictureJobs(sets, settings.lambda ?? DEFAULT_PICTURE_LAMBDA, seedsOf(settings), pictures);
}

/** The paper's figures at hand do not say which λ Table 6 is of. */
const DEFAULT_PICTURE_LAMBDA = 0.05;

/** Runs the jobs with a bar, or a line for each that ends where there is no terminal; returns what failed. */
async function runAll(open: readonly JobRun[], settings: ReproduceSettings): Promise<string[]> {
  const parallel = settings.jobs ?? (settings.device === 'cpu' ? availableParallelism() : 1);
  const failed: string[] = [];
  const fractions = new Map<string, number>();
  const bar = progressBar('reproduce', 1000);
  let ended = 0;
  const update = () => {
    const done = [...fractions.values()].reduce((sum, fraction) => sum + fraction, 0);
    bar.update(Math.round((1000 * done) / open.length), `${ended} of ${open.length} runs done`);
  };
  const say = (text: string) => {
    if (!process.stderr.isTTY) process.stderr.write(`${text}\n`);
  };
  say(`${open.length} runs to do, ${Math.min(parallel, open.length)} at a time`);
  try {
    await withInterrupt('interrupted: saving checkpoints (Ctrl-C again exits at once)', (signal) =>
      runJobs(open, {
        parallel,
        signal,
        onProgress: ({ name }, fraction) => {
          fractions.set(name, fraction);
          update();
        },
        onEnd: ({ name }, error) => {
          fractions.set(name, 1);
          ended++;
          if (error) failed.push(`  ${name}: ${error.message}`);
          say(`${ended}/${open.length} ${name} ${error ? `failed: ${error.message}` : 'done'}`);
          update();
        },
      }),
    );
  } catch (error) {
    if (!(error instanceof InterruptedError)) throw error;
    throw new InterruptedError(`stopped after ${ended} of ${open.length} runs; go on with --resume`);
  } finally {
    bar.stop();
  }
  return failed;
}

async function writeReports(
  targets: readonly Target[],
  runs: readonly JobRun[],
  output: string,
  combined: string | undefined,
): Promise<void> {
  const stored = await finishedResults(runs);
  const summary = summariseRuns(
    runs.length,
    stored.map(({ result }) => result),
  );
  const reports = [];
  const files: string[] = [];
  for (const target of targets) {
    const report = await reportOf(target, stored);
    reports.push(report);
    files.push(...(await writeTargetReport(output, report, summary)));
    console.log(`${report.title}\n\n${report.markdown}\n`);
  }
  if (combined) {
    await writeCombinedReport(combined, reports, summary);
    files.push(combined);
  }
  console.log(`written: ${files.join(', ')}`);
}
