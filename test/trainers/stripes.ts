import type { ImageSet } from '../../src/datasets/images/image-set.ts';

/** 16 grey images of 8x8, each with a stripe at another place. */
export function stripes(count = 16): ImageSet {
  const pixels = Array.from({ length: count }, (_, n) =>
    Uint8Array.from({ length: 64 }, (_, p) => (((p % 8) + Math.floor(p / 8) * (n & 1) + n) % 8 < 3 ? 230 : 20)),
  );
  return {
    name: 'stripes',
    count,
    channels: 1,
    height: 8,
    width: 8,
    labels: Int32Array.from({ length: count }, (_, n) => n & 1),
    skipped: [],
    fingerprint: `stripes-${count}`,
    pixels: (index) => pixels[index] as Uint8Array,
  };
}
