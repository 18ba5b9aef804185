import path from 'node:path';
import type { Command } from 'commander';
import { world } from '#distributed/world';
import { gatherTexts } from '../../distributed/communicator.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { checkImageSet, parseImageSet } from '../../experiments/jobs/image-sets.ts';
import type { Job } from '../../experiments/jobs/job.ts';
import {
  defaultParallelism,
  type JobRun,
  jobRuns,
  prepareJobs,
  runsOfShare,
  unfinishedJobs,
} from '../../experiments/jobs/run-jobs.ts';
import {
  imageJobs,
  isImageTarget,
  pointJobs,
  TARGETS,
  type Target,
} from '../../experiments/reproduce/paper/targets.ts';
import { PRESET_SETTINGS } from '../../experiments/reproduce/presets.ts';
import {
  finishedResults,
  reportOf,
  writeCombinedReport,
  writeTargetReport,
} from '../../experiments/reproduce/reports/reports.ts';
import { summariseRuns } from '../../experiments/reproduce/reports/run-summary.ts';
import { withFolderLock } from '../../files/folder-lock.ts';
import { resolveDevice } from '../../runtime/device.ts';
import { progressBar } from '../../terminal/progress.ts';
import { addOptions, readSettings, splitList } from '../options/command-options.ts';
import {
  parseTarget,
  type ReproduceSettings,
  refuseUnusedOptions,
  reproduceOptions,
} from '../options/reproduce-options.ts';
import { ofRank, parsedShare } from '../options/shared-options.ts';
import { runWithProgress } from '../ui/jobs.ts';

export function defineReproduce(command: Command): void {
  command.argument('<targets...>', TARGETS.join(', ')).addHelpText(
    'after',
    `
Examples:
  iso-diffusion reproduce table-1 --preset smoke
  iso-diffusion reproduce table-1 table-2 table-3 table-4 table-5 figure-1 section-4
  iso-diffusion reproduce table-2 --runs 5 --jobs 8 --resume
  iso-diffusion reproduce table-6 figure-2 --data oxford-flowers-102=./flowers --device cuda
  iso-diffusion reproduce table-6 --preset smoke --data ./photos --resolution 32 --extractor model.onnx:features

Writes TARGET.md, .json, .csv and plots. Runs are made in other processes, on the cpu with one thread. Runs are stored
in OUTPUT/jobs and shared by the targets that need them. The result does not depend on --jobs. Ctrl-C saves checkpoints;
--resume continues, also after a kill, with the same outcome. --share 1/4 to --share 4/4 divide the runs among four processes
or machines that share a disk; --report-only then reports them. The ranks of mpirun need no option.`,
  );
  addOptions(command, reproduceOptions).action(async (targets: string[], flags) =>
    reproduce(
      targets.flatMap((text) => splitList(text, 'names')).map(parseTarget),
      await readSettings(reproduceOptions, flags),
    ),
  );
}

async function reproduce(given: readonly Target[], settings: ReproduceSettings): Promise<void> {
  const targets = [...new Set(given)];
  refuseUnusedOptions(targets, settings);
  if (settings.share !== undefined && settings.report_only)
    throw new InvalidArgumentError('--share runs a part, and --report-only reports all parts: give one of them');
  const output = settings.output ?? path.join('runs', `reproduce-${settings.preset}`);
  const runs = jobRuns(output, [
    ...pointJobsOf(targets, settings),
    ...(targets.some(isImageTarget) ? await imageJobsOf(settings) : []),
  ]);
  if (settings.report_only) {
    if (world().rank > 0) return;
    await unfinishedJobs(runs);
    await writeReports(targets, runs, output, settings);
    return;
  }
  await resolveDevice(settings.device);
  const ranks = world();
  const share = parsedShare(settings.share) ?? ofRank(ranks);
  const own = runsOfShare(runs, share);
  const [index, shares] = share;
  // A lock of the share's own: the others write other runs there.
  const locked = shares === 1 ? output : path.join(output, `share-${index}-of-${shares}`);
  const failed = await withFolderLock(locked, 'choose another --output', async () => {
    const open = await prepareJobs(own, settings.resume);
    const { jobs, device } = settings;
    const failures = await runWithProgress('reproduce', open, jobs ?? defaultParallelism(device));
    const all = (await gatherTexts(ranks, failures.join('\n'))).filter((text) => text !== '');
    const hasAll = settings.share === undefined && ranks.rank === 0;
    if (hasAll && all.length < runs.length) await writeReports(targets, runs, output, settings);
    return ranks.rank === 0 ? all.flatMap((text) => text.split('\n')) : [];
  });
  if (failed.length > 0)
    throw new Error(
      `${failed.length} of ${runs.length} runs failed; the reports leave them out:\n${failed.join('\n')}\nTry again with --resume.`,
    );
  if (settings.share !== undefined)
    console.log(
      `share ${settings.share}: ${own.length} of ${runs.length} runs are done. When all shares are, the same command with --report-only in place of --share reports them`,
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

async function imageJobsOf(settings: ReproduceSettings): Promise<Job[]> {
  const preset = PRESET_SETTINGS[settings.preset];
  const sets = settings.data ? await Promise.all(settings.data.map(parseImageSet)) : preset.imageSets;
  const twice = sets.find(({ name }, i) => sets.findIndex((other) => other.name === name) !== i);
  if (twice)
    throw new InvalidArgumentError(`--data has two sets named '${twice.name}': give them different names, NAME=PATH`);
  const extractor = settings.extractor ?? preset.images.extractor;
  const ownLogits = extractor === 'inception' ? 'inception:logits_unbiased' : null;
  const samples = settings.samples ?? preset.images.samples;
  const images = {
    ...preset.images,
    resolution: settings.resolution ?? preset.images.resolution,
    samples,
    extractor,
    logits_extractor: settings.logits_extractor ?? ownLogits,
    is_splits: Math.min(preset.images.is_splits, samples ?? Number.POSITIVE_INFINITY),
    epochs: settings.epochs ?? preset.images.epochs,
    batch_size: settings.batch_size ?? preset.images.batch_size,
    num_inference_steps: settings.steps ?? preset.images.num_inference_steps,
    device: settings.device,
  };
  if (!settings.report_only) {
    const bar = progressBar('images', 1000);
    try {
      for (const set of sets)
        await checkImageSet(set, images, (done, total) =>
          bar.update(total ? Math.round((1000 * done) / total) : 0, `${set.name}: ${done}`),
        );
    } finally {
      bar.stop();
    }
  }
  return imageJobs(sets, settings.lambda ?? DEFAULT_IMAGE_LAMBDA, seedsOf(settings), images);
}

/** The published figures do not say which λ Table 6 used. */
const DEFAULT_IMAGE_LAMBDA = 0.05;

async function writeReports(
  targets: readonly Target[],
  runs: readonly JobRun[],
  output: string,
  { preset, report: combined }: ReproduceSettings,
): Promise<void> {
  const { verdicts } = PRESET_SETTINGS[preset];
  const stored = await finishedResults(runs);
  if (stored.length === 0)
    throw new InvalidArgumentError(
      `${output} has no finished run of ${targets.join(', ')}: there is nothing to report yet`,
    );
  const results = stored.map(({ result }) => result);
  const summary = summariseRuns(runs.length, results, { verdicts });
  const reports = [];
  const files: string[] = [];
  for (const target of targets) {
    const report = await reportOf(target, stored, { verdicts });
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
