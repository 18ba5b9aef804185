import type { SingleBar } from 'cli-progress';

export interface Progress {
  /** @param text shown behind the bar. */
  update(done: number, text?: string): void;
  stop(): void;
}

/** Without a terminal, as in a log file, lines replace the bar. */
const LINE_INTERVAL_MS = 30_000;

/** Columns of the bar, the percentage and the time left: text behind them must not wrap. */
const BAR_COLUMNS = 48;

/**
 * A progress bar on stderr with the time left; a line every half minute where stderr is not a terminal.
 *
 * @param start what was done before this run; it does not count for the speed.
 */
export function progressBar(label: string, total: number, start = 0): Progress {
  if (!process.stderr.isTTY) return progressLines(label, total, start);
  let bar: SingleBar | undefined;
  let isStopped = false;
  // Only a terminal needs the library: the bar appears when it is loaded.
  void import('cli-progress').then(({ default: { SingleBar } }) => {
    if (isStopped) return;
    bar = new SingleBar({
      format: `${label} {bar} {percentage}% | {eta_formatted} left {text}`,
      stream: process.stderr,
      barsize: 20,
      clearOnComplete: true,
      // Its own handler would keep Ctrl-C from ending the process, and a process that ends so leaves the terminal as it is.
      gracefulExit: false,
      linewrap: true,
    });
    bar.start(total, start, { text: '' });
  });
  const room = () => Math.max(0, (process.stderr.columns || 80) - BAR_COLUMNS - label.length);
  return {
    update: (done, text = '') => bar?.update(done, { text: text && `| ${text}`.slice(0, room()) }),
    stop: () => {
      isStopped = true;
      bar?.stop();
    },
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

/** "95 s", "12.5 min" or "3.4 h". */
export function duration(seconds: number): string {
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  return seconds < 7200 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
