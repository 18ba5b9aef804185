// A run on the disk, whichever command wrote it.
import path from 'node:path';
import { InvalidArgumentError } from '../../errors.ts';
import { readEvaluations } from '../../evaluation/callback/evaluation-log.ts';
import { exists, isFolder } from '../../files/regular-file.ts';
import { isPipelineFolder, readPipelineFolder } from '../../hub/open-pretrained.ts';
import { CurveRecord } from '../../pages/curve-record.ts';
import type { Curves } from '../../pages/run-page.ts';
import { drawnShape, drawsPoints } from '../../pipelines/load.ts';
import { readHead } from '../../trainers/checkpoint/checkpoint.ts';
import { findLatestCheckpoint } from '../../trainers/checkpoint/checkpoint-folder.ts';
import { flatSettings } from '../../trainers/checkpoint/run-identity.ts';
import { METRICS_FILE } from '../../trainers/logging/run-loggers.ts';
import * as z from '../../zod.ts';
import {
  type DrawJob,
  isTraining,
  jobName,
  pipelineFolder,
  readJob,
  readResult,
  type TrainingCurve,
} from '../jobs/job.ts';
import { readTrainingCurve } from '../jobs/training.ts';

export type Setting = string | number | boolean;

/** What a run measured itself. */
export interface StoredMetrics {
  readonly values: Readonly<Record<string, number>>;
  /** How: "500 samples, extractor coordinates". Values that were measured in other ways cannot be compared. */
  readonly how: string;
  readonly warnings: readonly string[];
}

/** A run that was trained, as far as its folder tells. */
export interface StoredRun {
  /** The folder as it was given. */
  readonly folder: string;
  readonly task: 'points' | 'images';
  /** Of the training; undefined for a pipeline, which does not say. */
  readonly seed: number | undefined;
  /** All that decides its numbers, as far as the folder tells, by the names of training arguments; not the seed. */
  readonly settings: Readonly<Record<string, Setting>>;
  /** What was logged; undefined for a pipeline, and for a run that only draws. */
  readonly curves: Curves | undefined;
  readonly measured: StoredMetrics | undefined;
  /** The folder of the model. */
  readonly pipeline: string;
  /** Where the predicted noise is scaled. */
  readonly scaling: DrawJob['scaling'] | undefined;
  /** Of what is drawn, without the batch; undefined for a model of an unknown class. */
  readonly shape: readonly number[] | undefined;
  /** Classes of a class-conditional model. */
  readonly classes: number | undefined;
}

/**
 * Reads a run without its weights.
 *
 * @throws {InvalidArgumentError} for a folder that is not a run, or of one that has not ended or has no log.
 * @throws {ConfigError} when a file of it is damaged.
 */
export async function readRun(folder: string): Promise<StoredRun> {
  if (!(await isFolder(folder))) throw new InvalidArgumentError(`${folder} is not a folder, so it is not a run`);
  const found = (await runOfJob(folder)) ?? (await runOfTraining(folder)) ?? { pipeline: folder };
  if (!(await isPipelineFolder(found.pipeline)))
    throw new InvalidArgumentError(
      found.pipeline === folder
        ? `${folder} is not a run: it is neither an output of train, nor of a run of sweep or reproduce (OUTPUT/jobs/NAME), nor a pipeline`
        : `${folder} has no pipeline in ${found.pipeline}: continue the run, or save its pipeline there`,
    );
  const model = await readPipelineFolder(found.pipeline, { require: [] });
  const { unetConfig, schedulerConfig } = model;
  const { num_class_embeds: classes } = unetConfig;
  return {
    folder,
    task: (await drawsPoints(model)) ? 'points' : 'images',
    seed: undefined,
    curves: undefined,
    measured: undefined,
    scaling: undefined,
    shape: await drawnShape(model),
    classes: typeof classes === 'number' ? classes : undefined,
    ...found,
    settings: {
      ...flat(unetConfig, 'model.'),
      ...flat(schedulerConfig, 'noise_scheduler.'),
      ...found.settings,
      ...DRAWN_AS_TRAINED,
      ...found.scaling,
    },
  };
}

/** What `scaling` changes. */
const DRAWN_AS_TRAINED = { iso_lambda: 'as trained', noise_scale: 1 };

type Found = Pick<StoredRun, 'pipeline'> & Partial<StoredRun>;

async function runOfJob(folder: string): Promise<Found | undefined> {
  const job = await readJob(folder);
  if (!job) return undefined;
  if (job.kind === 'compare')
    throw new InvalidArgumentError(`${folder} compares two models, and is not a run: name theirs`);
  const result = await readResult(folder);
  if (!result || !('metrics' in result)) throw new InvalidArgumentError(`${folder} is not finished: resume it first`);
  const model = isTraining(job) ? job : job.model;
  const { seed, kind: _, lambda, batch_size, epochs, num_train_timesteps: __, ...settings } = model;
  const scaling = isTraining(job) ? undefined : job.scaling;
  const names = Object.entries(result.metrics).filter(
    (entry): entry is [string, number] => typeof entry[1] === 'number',
  );
  return {
    pipeline: pipelineFolder(scaling ? path.join(path.dirname(folder), jobName(model)) : folder),
    seed,
    settings: flat({
      'loss.lambda': lambda,
      per_device_train_batch_size: batch_size,
      num_train_epochs: epochs,
      ...settings,
    }),
    curves: 'training' in result ? curvesOf(result.training) : undefined,
    measured: {
      values: Object.fromEntries(names),
      how: `${model.kind === 'images' ? `extractor ${model.extractor}, ` : ''}${model.num_inference_steps} steps`,
      warnings: 'warnings' in result ? result.warnings : [],
    },
    scaling,
  };
}

const identitySchema = z.object({
  model: z.unknown(),
  loss: z.unknown(),
  noise_scheduler: z.unknown(),
  dataset_sha256: z.string(),
  autoencoder: z.optional(z.record(z.string(), z.json())),
  random_scheme: z.optional(z.number()),
  arguments: z.record(z.string(), z.json()),
});

async function runOfTraining(folder: string): Promise<Found | undefined> {
  const log = path.join(folder, METRICS_FILE);
  const { dir: checkpoint } = await findLatestCheckpoint(folder);
  if (checkpoint === undefined && !(await exists(log))) return undefined;
  const pipeline = pipelineFolder(folder);
  if (!(await exists(log)))
    throw new InvalidArgumentError(
      `${folder} has no log: there is no ${METRICS_FILE}. To compare the models alone, name ${pipeline}`,
    );
  const head = checkpoint === undefined ? undefined : await readHead(checkpoint);
  const run = identitySchema.safeParse(head?.state.run).data;
  const { seed, ...settings } = run ? flatSettings(run) : {};
  const last = (await readEvaluations(path.join(folder, 'evaluation'))).at(-1);
  return {
    pipeline,
    ...(typeof seed === 'number' ? { seed } : {}),
    ...(head && run
      ? { settings: { ...flat({ steps: head.step, ...settings }), ...changedSettings(head.state.changes) } }
      : {}),
    curves: curvesOf(await readTrainingCurve(folder)),
    measured: last && {
      values: last.values,
      how: `${last.samples} samples at step ${last.step}, extractor ${last.extractor}`,
      warnings: last.warnings,
    },
  };
}

const changesSchema = z._default(
  z.array(z.object({ step: z.int(), name: z.string(), from: z.unknown(), to: z.unknown() })),
  [],
);

/** Settings that changed between two steps of a run: "0.1, from step 100 on 0.3". */
function changedSettings(recorded: unknown): Record<string, Setting> {
  const texts: Record<string, string> = {};
  const text = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value));
  for (const { step, name, from, to } of changesSchema.safeParse(recorded).data ?? [])
    texts[name] = `${texts[name] ?? text(from)}, from step ${step} on ${text(to)}`;
  return texts;
}

/** A log of any length as a curve that can be drawn. */
function curvesOf({ step, ...values }: TrainingCurve): Curves {
  const record = new CurveRecord();
  const names = Object.keys(values);
  for (const [i, at] of step.entries())
    record.add(at, Object.fromEntries(names.map((name) => [name, values[name]?.[i] ?? Number.NaN])));
  return record.curves();
}

/** Names and values of plain settings, without the notes of the library that wrote them. */
function flat(object: object, prefix = ''): Record<string, Setting> {
  const isNote = (name: string) => /(^|\.)_/.test(name) && !name.endsWith('_class_name');
  const entries = Object.entries(object).filter(([name, value]) => value !== null && !isNote(name));
  return Object.fromEntries(
    entries.map(([name, value]) => [
      `${prefix}${name}`,
      typeof value === 'object' ? JSON.stringify(value) : (value as Setting),
    ]),
  );
}
