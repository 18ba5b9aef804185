import type { DownloadProgress } from '../../hub/hub-snapshot.ts';
import { type Progress, progressBar } from './progress.ts';

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
