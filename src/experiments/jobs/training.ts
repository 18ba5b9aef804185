// What the jobs on points and on images have in common: the training, its curves, and the end.
import { readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { errorText, FileFormatError } from '../../errors.ts';
import { isoLoss } from '../../losses/index.ts';
import { Trainer, type TrainerOptions, type TrainingArguments } from '../../trainers/index.ts';
import { METRICS_FILE } from '../../trainers/logging/run-loggers.ts';
import * as z from '../../zod.ts';
import {
  curveSchema,
  environment,
  type ImageMeasured,
  type JobClock,
  type JobContext,
  type PointMeasured,
  pipelineFolder,
  type TrainingCurve,
  type TrainingJob,
  type TrainingResult,
  writeResult,
} from './job.ts';

const TRAINING_FOLDER = 'training';
/** Entries of the training curve. */
const CURVE_LENGTH = 200;
/** Checkpoints of a run. A long run saves one at least every `MOST_STEPS_A_CHECKPOINT` steps. */
const CHECKPOINTS = 20;
const MOST_STEPS_A_CHECKPOINT = 1000;

const recordSchema = z.catchall(z.object({ step: z.int() }), z.nullable(z.number()));
/** Logged names that are not metrics. */
const NO_METRICS = ['epoch', 'steps_per_second'];

/**
 * The curves that a run logged, before and after it was resumed: one for every name that all records have.
 *
 * @throws {FileFormatError} when there is no log, or it is not one.
 */
export async function readTrainingCurve(outputDir: string): Promise<TrainingCurve> {
  const file = path.join(outputDir, METRICS_FILE);
  let records: z.output<typeof recordSchema>[];
  try {
    const lines = (await readFile(file, 'utf8')).split('\n').filter(Boolean);
    const entries: unknown[] = lines.map((line) => JSON.parse(line));
    // A line on changed settings has no metrics.
    const isRecord = (entry: unknown) => !(typeof entry === 'object' && entry !== null && 'changed' in entry);
    // A record whose steps were all skipped, in float16, has no loss.
    const isWhole = (record: z.output<typeof recordSchema>) => Object.values(record).every((value) => value !== null);
    records = entries
      .filter(isRecord)
      .map((entry) => recordSchema.parse(entry))
      .filter(isWhole);
  } catch (cause) {
    throw new FileFormatError(`${file} cannot be read as the log of a run: ${errorText(cause)}`, { cause });
  }
  const names = Object.keys(records[0] ?? {}).filter(
    (name) => !NO_METRICS.includes(name) && records.every((record) => typeof record[name] === 'number'),
  );
  const curves = names.map((name) => [name, records.map((record) => record[name])]);
  return curveSchema.parse({ step: [], ...Object.fromEntries(curves) });
}

/** What differs between the trainings of jobs. */
interface JobTraining extends Pick<TrainerOptions, 'model' | 'train_dataset' | 'noise_scheduler'> {
  readonly args?: Pick<TrainingArguments, 'random_flip' | 'use_ema'>;
}

/**
 * Trains the model of a job, from its last checkpoint on if there is one.
 *
 * @returns the folder of the saved pipeline, `pipeline` in the job's folder.
 * @throws `signal.reason` when it was stopped.
 */
export async function trainJob(
  job: TrainingJob,
  folder: string,
  { args, ...training }: JobTraining,
  clock: JobClock,
  { signal, onProgress }: JobContext,
): Promise<string> {
  const steps = job.epochs * Math.ceil(training.train_dataset.count / job.batch_size);
  const trainer = new Trainer({
    ...training,
    args: {
      ...args,
      output_dir: path.join(folder, TRAINING_FOLDER),
      num_train_epochs: job.epochs,
      per_device_train_batch_size: job.batch_size,
      learning_rate: job.learning_rate,
      seed: job.seed,
      device: job.device,
      logging_steps: Math.ceil(steps / CURVE_LENGTH),
      save_steps: Math.min(Math.ceil(steps / CHECKPOINTS), MOST_STEPS_A_CHECKPOINT),
      report_to: ['jsonl'],
      disable_tqdm: true,
    },
    loss: isoLoss({ lambda: job.lambda }),
    callbacks: [
      { onStep: ({ global_step, max_steps }) => onProgress(global_step / max_steps), onSave: () => clock.save() },
    ],
  });
  const { interrupted } = await trainer.train({ resume_from_checkpoint: 'latest', signal });
  if (interrupted) throw signal.reason;
  const pipelineDir = pipelineFolder(folder);
  await trainer.savePipeline(pipelineDir);
  return pipelineDir;
}

/** Writes the result of a trained job, with what every result holds. The files of the training are removed. */
export async function finishTraining<Measured extends PointMeasured | ImageMeasured>(
  folder: string,
  measured: Measured,
  clock: JobClock,
): Promise<Measured & TrainingResult> {
  const trainingDir = path.join(folder, TRAINING_FOLDER);
  const training = await readTrainingCurve(trainingDir);
  const result = { ...measured, training, timing: clock.elapsed(), environment: environment() };
  await writeResult(folder, result);
  await rm(trainingDir, { recursive: true, force: true });
  return result;
}
