import cliProgress from 'cli-progress';
import { duration } from '../../experiments/text.ts';
import type { DownloadProgress } from '../../hub/repository.ts';
import { withInterrupt } from './interrupt.ts';

export interface Progress {
  /** @param text shown behind the bar. */
  update(done: number, text?: string): void;
  stop(): void;
}

/** Without a terminal, as in a log file, lines replace the bar. */
const LINE_INTERVAL_MS = 30_000;

/**
 * A progress bar on stderr with the time left; a line every half minute where stderr is not a terminal.
 *
 * @param start what was done before this run; it does not count for the speed.
 */
export function progressBar(label: string, total: number, start = 0): Progress {
  if (!process.stderr.isTTY) return progressLines(label, total, start);
  const bar = new cliProgress.SingleBar({
    format: `${label} {bar} {percentage}% | {eta_formatted} left {text}`,
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
  });
  bar.start(total, start, { text: '' });
  return {
    update: (done, text = '') => bar.update(done, { text: text && `| ${text}` }),
    stop: () => bar.stop(),
  };
}

function progressLines(label: string, total: number, start: number): Progress {
  const began = performance.now();
  let written = began;
  return {
    update: (done, text = '') => {
      const now = performance.now();
      if (done <= start || now - written < LINE_INTERVAL_MS) return;
      written = now;
      const seconds = (((now - began) / 1000) * (total - done)) / (done - start);
      const percentage = Math.floor((100 * done) / total);
      process.stderr.write(`${label} ${percentage}%, ${duration(seconds)} left${text && `, ${text}`}\n`);
    },
    stop: () => {},
  };
}

/** What `work` of `withProgress` hands on to a function of the package. */
export interface Watch {
  readonly on_progress: (fraction: number) => void;
  readonly signal: AbortSignal;
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
      if (status === 'progress') bar ??= progressBar(file, total);
      bar?.update(loaded, `${(loaded / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB`);
      if (status !== 'done') return;
      bar?.stop();
      bar = undefined;
    });
  } finally {
    bar?.stop();
  }
}
