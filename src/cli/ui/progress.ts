import type { DownloadProgress } from '../../hub/repository.ts';
import { withInterrupt } from '../../terminal/interrupt.ts';
import { type Progress, progressBar } from '../../terminal/progress.ts';

/** What `work` of `withProgress` hands on to a function of the package. */
export interface Watch {
  readonly on_progress: (fraction: number) => void;
  readonly signal: AbortSignal;
}

/** Prints what `on_warning` is told. */
export function printWarning(message: string): void {
  process.stderr.write(`warning: ${message}\n`);
}

/** A bar for a task that reports its finished fraction, and a signal that Ctrl-C aborts. */
export function withProgress<T>(label: string, work: (watch: Watch) => Promise<T>, notice = 'interrupted'): Promise<T> {
  return withInterrupt(notice, (signal) =>
    withStageBars((onProgress) => {
      onProgress(0, label);
      return work({ signal, on_progress: (fraction) => onProgress(fraction, label) });
    }),
  );
}

/** A bar for each stage of a task that reports stages and their finished fractions. */
export async function withStageBars<T>(
  work: (onProgress: (fraction: number, stage: string) => void) => Promise<T>,
): Promise<T> {
  let current: { stage: string; bar: Progress } | undefined;
  try {
    return await work((fraction, stage) => {
      if (current?.stage !== stage) {
        current?.bar.stop();
        current = { stage, bar: progressBar(stage, 1000) };
      }
      current.bar.update(Math.round(fraction * 1000));
    });
  } finally {
    current?.bar.stop();
  }
}

/** A bar for each file that `work` downloads from the Hub. */
export async function downloadBar<T>(
  work: (onProgress: (progress: DownloadProgress) => void) => Promise<T>,
): Promise<T> {
  let bar: Progress | undefined;
  try {
    return await work(({ status, file, loaded = 0, total = 1 }) => {
      if (status !== 'progress') {
        bar?.stop();
        bar = undefined;
        return;
      }
      bar ??= progressBar(file, total);
      bar.update(loaded, `${(loaded / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB`);
    });
  } finally {
    bar?.stop();
  }
}
