import { copyFile, rename, stat } from '#platform/fs';
import * as path from '#platform/path';
import { freePath } from '../../files/regular-file.ts';
import type { FormerLog } from '../checkpoint/run-checkpoints.ts';
import { JsonlLogger } from './jsonl-logger.ts';
import type { RunLogger, RunLoggers } from './run-logger.ts';

/** Where a run's metrics can be reported to. */
type ReportTarget = 'jsonl' | 'tensorboard';

/** The file in `output_dir` that 'jsonl' writes, one line a log. */
export const METRICS_FILE = 'metrics.jsonl';

/**
 * Opens the loggers of a run: `metrics.jsonl` and `tensorboard/` in `outputDir`, and those of the user. A `metrics.jsonl` of
 * another run is kept as `metrics-2.jsonl`, or with the next number that is free.
 *
 * @param resumeStep the step the run goes on from: what was logged after it is dropped; undefined for a fresh run.
 */
export async function openLoggers(
  outputDir: string,
  targets: readonly ReportTarget[],
  own: readonly RunLogger[],
  formerLog: FormerLog,
  resumeStep?: number,
): Promise<RunLoggers> {
  if (targets.includes('jsonl') && formerLog !== 'own') await keepLog(outputDir, formerLog);
  const loggers = await Promise.all([...new Set(targets)].map((target) => openLogger(outputDir, target, resumeStep)));
  return together([...loggers, ...own]);
}

function together(loggers: readonly RunLogger[]): RunLoggers {
  let open = true;
  const each = async (call: (logger: RunLogger) => void | Promise<void>) => {
    // An evaluation that nobody waits for may end after the run.
    if (!open) return;
    for (const logger of loggers) await call(logger);
  };
  return {
    begin: (run) => each((logger) => logger.begin?.(run)),
    log: (step, values) => each((logger) => logger.log(step, values)),
    logEvaluation: (step, values) => each((logger) => logger.logEvaluation?.(step, values)),
    logImage: (step, name, png) => each((logger) => logger.logImage?.(step, name, png)),
    note: (step, changes) => each((logger) => logger.note?.(step, changes)),
    close: async (outcome) => {
      open = false;
      for (const logger of loggers) await logger.close?.(outcome);
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

async function openLogger(outputDir: string, target: ReportTarget, resumeStep?: number): Promise<RunLogger> {
  const options = resumeStep === undefined ? {} : { resume_step: resumeStep };
  if (target === 'jsonl') return new JsonlLogger(path.join(outputDir, METRICS_FILE), options);
  const { TensorBoardLogger } = await import('./tensorboard-logger.ts');
  return new TensorBoardLogger(path.join(outputDir, 'tensorboard'), options);
}
