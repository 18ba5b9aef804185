import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { JsonlLogger } from './jsonl-logger.ts';
import type { MetricsLogger } from './metrics-logger.ts';
import { TensorBoardLogger } from './tensorboard-logger.ts';

/** Where a run's metrics can be reported to. */
export type ReportTarget = 'jsonl' | 'tensorboard';

/** The file in `output_dir` that 'jsonl' writes, one line a log. */
export const METRICS_FILE = 'metrics.jsonl';

/**
 * Opens the loggers of a run: `metrics.jsonl` and `tensorboard/` in `outputDir`.
 *
 * @param resumeStep the step the run goes on from: what was logged after it is dropped; undefined for a fresh run.
 */
export function openLoggers(
  outputDir: string,
  targets: readonly ReportTarget[],
  resumeStep?: number,
): MetricsLogger {
  const loggers = [...new Set(targets)].map((target) => openLogger(outputDir, target, resumeStep));
  return {
    log: (step, values) => {
      for (const logger of loggers) logger.log(step, values);
    },
    flush: async () => {
      for (const logger of loggers) await logger.flush();
    },
    close: async () => {
      for (const logger of loggers) await logger.close();
    },
  };
}

function openLogger(outputDir: string, target: ReportTarget, resumeStep?: number): MetricsLogger {
  const options = resumeStep === undefined ? {} : { resume_step: resumeStep };
  return target === 'jsonl'
    ? new JsonlLogger(path.join(outputDir, METRICS_FILE), options)
    : new TensorBoardLogger(path.join(outputDir, 'tensorboard'), options);
}

/** What says where and how fast a run was, beside what its steps reported. */
const PROGRESS = new Set(['epoch', 'steps_per_second']);
const recordSchema = z.looseObject({ step: z.int() });

/** A run's log by name: the steps of its records, and each number that the steps reported. */
export interface LoggedCurves {
  readonly step: readonly number[];
  readonly curves: ReadonlyMap<string, readonly number[]>;
}

/** Reads `metrics.jsonl`, the part before a resumption included. Every curve has a value for each step. */
export async function readLoggedCurves(outputDir: string): Promise<LoggedCurves> {
  const lines = (await readFile(path.join(outputDir, METRICS_FILE), 'utf8')).split('\n').filter(Boolean);
  const records = lines.map((line) => recordSchema.parse(JSON.parse(line)));
  const names = Object.keys(records.at(-1) ?? {}).filter((name) => name !== 'step' && !PROGRESS.has(name));
  const complete = records.filter((record) => names.every((name) => typeof record[name] === 'number'));
  return {
    step: complete.map(({ step }) => step),
    curves: new Map(names.map((name) => [name, complete.map((record) => Number(record[name]))])),
  };
}
