import { copyFile, rename, stat } from 'node:fs/promises';
import path from 'node:path';
import { freePath } from '../../files/regular-file.ts';
import type { FormerLog } from '../checkpoint/run-checkpoints.ts';
import { JsonlLogger } from './jsonl-logger.ts';
import type { MetricsLogger } from './metrics-logger.ts';
import { TensorBoardLogger } from './tensorboard-logger.ts';

/** Where a run's metrics can be reported to. */
type ReportTarget = 'jsonl' | 'tensorboard';

/** The file in `output_dir` that 'jsonl' writes, one line a log. */
export const METRICS_FILE = 'metrics.jsonl';

/**
 * Opens the loggers of a run: `metrics.jsonl` and `tensorboard/` in `outputDir`. A `metrics.jsonl` of another run is kept
 * as `metrics-2.jsonl`, or with the next number that is free.
 *
 * @param resumeStep the step the run goes on from: what was logged after it is dropped; undefined for a fresh run.
 */
export async function openLoggers(
  outputDir: string,
  targets: readonly ReportTarget[],
  formerLog: FormerLog,
  resumeStep?: number,
): Promise<MetricsLogger> {
  if (targets.includes('jsonl') && formerLog !== 'own') await keepLog(outputDir, formerLog);
  const loggers = [...new Set(targets)].map((target) => openLogger(outputDir, target, resumeStep));
  return {
    log: (step, values) => {
      for (const logger of loggers) logger.log(step, values);
    },
    note: (step, changes) => {
      for (const logger of loggers) logger.note?.(step, changes);
    },
    flush: async () => {
      for (const logger of loggers) await logger.flush();
    },
    close: async () => {
      for (const logger of loggers) await logger.close();
    },
  };
}

async function keepLog(outputDir: string, formerLog: Exclude<FormerLog, 'own'>): Promise<void> {
  const log = path.join(outputDir, METRICS_FILE);
  const size = (await stat(log).catch(() => undefined))?.size ?? 0;
  if (size === 0) return;
  const kept = await freePath(log);
  // A branch goes on with what its parent logged up to the checkpoint.
  await (formerLog === 'parent' ? copyFile(log, kept) : rename(log, kept));
}

function openLogger(outputDir: string, target: ReportTarget, resumeStep?: number): MetricsLogger {
  const options = resumeStep === undefined ? {} : { resume_step: resumeStep };
  return target === 'jsonl'
    ? new JsonlLogger(path.join(outputDir, METRICS_FILE), options)
    : new TensorBoardLogger(path.join(outputDir, 'tensorboard'), options);
}
