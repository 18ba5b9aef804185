import path from 'node:path';
import { JsonlLogger } from './jsonl-logger.ts';
import type { MetricsLogger } from './metrics-logger.ts';
import { TensorBoardLogger } from './tensorboard-logger.ts';

/** Where a run's metrics can be reported to. */
type ReportTarget = 'jsonl' | 'tensorboard';

/** The file in `output_dir` that 'jsonl' writes, one line a log. */
export const METRICS_FILE = 'metrics.jsonl';

/**
 * Opens the loggers of a run: `metrics.jsonl` and `tensorboard/` in `outputDir`.
 *
 * @param resumeStep the step the run goes on from: what was logged after it is dropped; undefined for a fresh run.
 */
export function openLoggers(outputDir: string, targets: readonly ReportTarget[], resumeStep?: number): MetricsLogger {
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
