import { expect, it } from 'vitest';
import { batchesOfShare } from '../../src/pipelines/image-output.ts';

it.each([
  [70, 8, 3],
  [70, 8, 12],
  [64, 16, 4],
  [5, 16, 3],
])('%i images in batches of %i are divided into %i shares of whole batches', (count, batchSize, shares) => {
  const parts = Array.from({ length: shares }, (_, i) => batchesOfShare(count, batchSize, [i + 1, shares]));
  expect(parts[0]?.[0]).toBe(0);
  expect(parts.at(-1)?.[1]).toBe(count);
  for (const [i, [begin, end]] of parts.entries()) {
    expect(begin).toBe(parts[i - 1]?.[1] ?? 0);
    expect(begin === count || begin % batchSize === 0).toBe(true);
    expect(end).toBeGreaterThanOrEqual(begin);
    // Nearly equal: by one batch at most.
    expect(Math.abs((end - begin) / batchSize - count / batchSize / shares)).toBeLessThan(1.01);
  }
});
