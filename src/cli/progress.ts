import cliProgress from 'cli-progress';

export interface Progress {
  /** @param text shown behind the bar. */
  update(done: number, text?: string): void;
  stop(): void;
}

/** A progress bar on stderr; nothing where stderr is no terminal. */
export function progressBar(label: string, total: number): Progress {
  if (!process.stderr.isTTY) return { update: () => {}, stop: () => {} };
  const bar = new cliProgress.SingleBar({
    format: `${label} {bar} {percentage}% | {eta_formatted} left {text}`,
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
  });
  bar.start(total, 0, { text: '' });
  return {
    update: (done, text = '') => bar.update(done, { text: text && `| ${text}` }),
    stop: () => bar.stop(),
  };
}

/** A bar for a task that reports its finished fraction; removed when `work` ends. */
export async function withFractionBar<T>(
  label: string,
  work: (onProgress: (fraction: number) => void) => Promise<T>,
): Promise<T> {
  const bar = progressBar(label, 1000);
  try {
    return await work((fraction) => bar.update(Math.round(fraction * 1000)));
  } finally {
    bar.stop();
  }
}

/** A bar for each stage of a task that reports its stage and the finished fraction of it. */
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
