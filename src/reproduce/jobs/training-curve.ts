import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import type { TrainerCallback, TrainingArguments } from '../../trainers/index.ts';
import { METRICS_FILE } from '../../trainers/logging/run-loggers.ts';
import { curveSchema, type JobClock, type TrainingCurve } from './job.ts';

/** Entries of the training curve. */
const CURVE_LENGTH = 200;
/** Checkpoints of a run. A long run saves one at least every `MOST_STEPS_A_CHECKPOINT` steps. */
const CHECKPOINTS = 20;
const MOST_STEPS_A_CHECKPOINT = 1000;

const recordSchema = z.object({ step: z.int() }).catchall(z.number().nullable());
/** What is logged besides the metrics. Speed differs from run to run. */
const NO_METRICS = ['epoch', 'steps_per_second'];

/**
 * The curves of a run from its log, also of the part before it was resumed: one curve for every name that all records
 * have.
 */
export async function readTrainingCurve(outputDir: string): Promise<TrainingCurve> {
  const lines = (await readFile(path.join(outputDir, METRICS_FILE), 'utf8')).split('\n').filter(Boolean);
  const records = lines.map((line) => recordSchema.parse(JSON.parse(line)));
  const names = Object.keys(records[0] ?? {}).filter(
    (name) => !NO_METRICS.includes(name) && records.every((record) => typeof record[name] === 'number'),
  );
  const curves = names.map((name) => [name, records.map((record) => record[name])]);
  return curveSchema.parse({ step: [], ...Object.fromEntries(curves) });
}

/** How often a run of `steps` steps logs and saves checkpoints. */
export function logAndSave(steps: number): Pick<TrainingArguments, 'logging_steps' | 'save_steps' | 'report_to'> {
  return {
    logging_steps: Math.ceil(steps / CURVE_LENGTH),
    save_steps: Math.min(Math.ceil(steps / CHECKPOINTS), MOST_STEPS_A_CHECKPOINT),
    report_to: ['jsonl'],
  };
}

/** Reports the finished fraction of the training, and saves the time with each checkpoint. */
export function followTraining(clock: JobClock, onProgress: (fraction: number) => void): TrainerCallback {
  return {
    onStep: ({ global_step, max_steps }) => onProgress(global_step / max_steps),
    onSave: () => clock.save(),
  };
}
