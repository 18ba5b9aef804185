// Data sets that lie in memory.
import { createHash } from 'node:crypto';
import { applyScaler, fitScaler, type ImageSet, type PointSet, RandomStream } from 'iso-diffusion';

/** Points on a circle of radius 3 in the plane. */
export function circle(count: number): PointSet {
  const angles = Array.from({ length: count }, (_, i) => (2 * Math.PI * i) / count);
  const raw = Float64Array.from(angles.flatMap((angle) => [3 * Math.cos(angle), 3 * Math.sin(angle)]));
  const scaler = fitScaler('min-max', raw, 2);
  return { data: applyScaler(scaler, raw, 2), count, dims: 2, name: 'circle', scaler };
}

/** Grey images of 8 x 8 pixels, each with a bright bar at a random height. */
export function bars(count: number): ImageSet {
  const random = new RandomStream(1);
  const images = Array.from({ length: count }, () => {
    const row = Math.floor(8 * random.uniform());
    return Uint8Array.from({ length: 64 }, (_, i) => (Math.floor(i / 8) === row ? 255 : 0));
  });
  const fingerprint = createHash('sha256');
  for (const image of images) fingerprint.update(image);
  return {
    name: 'bars',
    count,
    channels: 1,
    height: 8,
    width: 8,
    labels: undefined,
    skipped: [],
    pixels: (index) => images[index] ?? new Uint8Array(64),
    fingerprint: fingerprint.digest('hex'),
  };
}
