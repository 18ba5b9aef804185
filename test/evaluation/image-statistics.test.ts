import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { evaluate } from '../../src/evaluation/evaluate.ts';
import { imageStatistics } from '../../src/evaluation/image-statistics.ts';
import { mergeStatistics } from '../../src/metrics/frechet/statistics.ts';
import { readStatistics, writeStatistics } from '../../src/metrics/frechet/statistics-file.ts';
import { temporaryFolder } from '../pipelines/saved-pipeline.ts';

const folder = await temporaryFolder();
const digits = { images: 'digits', extractor: 'raw-pixels' };

describe('statistics of images', () => {
  it('of shares, written and merged, equal the single pass to 1e-10', async () => {
    const whole = await imageStatistics(digits);
    const files = [1, 2, 3, 4].map((index) => path.join(folder, `part-${index}.npz`));
    for (const [i, file] of files.entries())
      await writeStatistics(file, (await imageStatistics({ ...digits, share: [i + 1, 4], batch_size: 50 })).statistics);
    const merged = mergeStatistics(...(await Promise.all(files.map(readStatistics))));
    expect(merged.count).toBe(1797);
    for (const name of ['mu', 'sigma'] as const)
      merged[name].forEach((value, i) => {
        // The acceptance bound of the project; pixels are in [0, 1].
        expect(Math.abs(value - (whole.statistics[name][i] ?? Number.NaN))).toBeLessThan(1e-10);
      });
    expect(whole.extractor).toEqual({
      name: 'raw-pixels 8x8x1',
      checksum: expect.stringMatching(/^[0-9a-f]{64}$/),
      dims: 64,
    });
    const options = { fake: 'digits', extractor: 'raw-pixels', num_samples: 500 };
    const direct = await evaluate({ ...options, real: 'digits', metrics: ['fid'], cache_dir: folder });
    const stored = await evaluate({ ...options, real: merged });
    expect(Math.abs((stored.metrics.fid ?? 0) - (direct.metrics.fid ?? 1))).toBeLessThan(1e-9);
  });

  it('of a wrong share are refused', async () => {
    await expect(imageStatistics({ ...digits, share: [3, 2] })).rejects.toThrow(/the share must be one of 1/);
    await expect(imageStatistics({ ...digits, share: [1, 5000] })).rejects.toThrow(InvalidArgumentError);
  });
});
