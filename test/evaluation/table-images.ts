import type { ImageSet } from '../../src/datasets/images/image-set.ts';
import type { FeatureExtractor } from '../../src/evaluation/extractors/feature-extractor.ts';

/** Images of one row whose two pixels are their number, from `first`. */
export function numberedImages(name: string, first: number, count: number): ImageSet {
  return {
    name,
    count,
    channels: 1,
    height: 1,
    width: 2,
    labels: undefined,
    skipped: [],
    fingerprint: `${name} ${first} ${count}`,
    pixels: (index) => Uint8Array.of((first + index) >> 8, (first + index) & 255),
  };
}

/** Looks the features of a numbered image up in a table, so that values of a reference go through an evaluation. */
export function tableExtractor(rows: readonly (readonly number[])[]): FeatureExtractor & { calls: number } {
  const dims = rows[0]?.length ?? 0;
  return {
    name: 'table',
    checksum: 'f'.repeat(64),
    dims,
    calls: 0,
    async extract(images) {
      this.calls += images.length;
      return Float32Array.from(
        images.flatMap(({ data }) => {
          const number = (data[0] ?? 0) * 256 + (data.at(-1) ?? 0);
          return rows[number] ?? Array<number>(dims).fill(number);
        }),
      );
    },
    async dispose() {},
  };
}

export function tableRows(values: readonly number[], dims: number): number[][] {
  return Array.from({ length: values.length / dims }, (_, i) => values.slice(i * dims, (i + 1) * dims));
}
