import type { TrainerCallback, TrainingArguments } from '../../trainers/index.ts';
import { readLoggedCurves } from '../../trainers/logging/run-loggers.ts';
import { type TrainingCurve, trainingCurveSchema } from '../jobs/job.ts';
import type { JobClock } from '../jobs/job-clock.ts';

/** Entries of the training curve. */
const CURVE_LENGTH = 200;
/** Checkpoints of a short run; a long one saves more, so that a kill never costs more than so many steps. */
const CHECKPOINTS = 20;
const MOST_STEPS_A_CHECKPOINT = 1000;

/** The curves of a run from its log, the part before a resumption included. */
export async function readTrainingCurve(outputDir: string): Promise<TrainingCurve> {
  const { step, curves } = await readLoggedCurves(outputDir);
  return trainingCurveSchema.parse({ step, ...Object.fromEntries(curves) });
}

/** How often a run of `steps` steps logs for its curve and saves for a resumption. */
export function logAndSave(
  steps: number,
): Pick<TrainingArguments, 'logging_steps' | 'save_steps' | 'report_to'> {
  return {
    logging_steps: Math.ceil(steps / CURVE_LENGTH),
    save_steps: Math.min(Math.ceil(steps / CHECKPOINTS), MOST_STEPS_A_CHECKPOINT),
    report_to: ['jsonl'],
  };
}

/** Reports the fraction of the training that is done, and keeps the time with each checkpoint. */
export function followTraining(clock: JobClock, onProgress: (fraction: number) => void): TrainerCallback {
  return {
    onStep: ({ global_step, max_steps }) => onProgress(global_step / max_steps),
    onSave: () => clock.save(),
  };
}
