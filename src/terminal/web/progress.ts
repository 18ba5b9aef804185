import type { Progress } from '../progress.ts';

export type { Progress };

const INTERVAL_MS = 30_000;

/** Lines on the console of the browser, one every half minute. */
export function progressBar(label: string, total: number): Progress {
  let written = performance.now();
  return {
    update: (done, text = '') => {
      const now = performance.now();
      if (now - written < INTERVAL_MS) return;
      written = now;
      console.info(`${label} ${Math.floor((100 * done) / total)}%, ${text}`);
    },
    stop: () => undefined,
  };
}
