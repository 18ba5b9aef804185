import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import type { FeatureImage } from '../../../../src/evaluation/extractors/feature-extractor.ts';

/** What scripts/extractor_reference.py keeps of each layer. */
export interface LayerSummary {
  readonly shape: number[];
  readonly rms: number;
  /** Evenly spaced over the flat values, first and last included. */
  readonly samples: number[];
}
export interface Reference {
  readonly images: { count: number; height: number; width: number };
  readonly layers: Readonly<Record<string, LayerSummary>>;
}

function fixture(name: string): unknown {
  return JSON.parse(readFileSync(new URL(`../../../fixtures/extractors/${name}.json`, import.meta.url), 'utf8'));
}
export const readReference = (name: string) => fixture(name) as Reference;
export const readStateDicts = () => fixture('state-dicts') as Record<'inception' | 'vgg16', Record<string, number[]>>;

/** A number in [0, 1) from a position and a seed: the finaliser of MurmurHash3. As in extractor_reference.py. */
function hashed(index: number, seed: number): number {
  let h = (Math.imul(index, 2654435761) + seed) | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return ((h ^ (h >>> 16)) >>> 0) / 2 ** 32;
}

function fnv1a(text: string): number {
  let h = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) h = Math.imul(h ^ byte, 0x01000193);
  return h;
}

/** The weights of extractor_reference.py. */
export function weightsByRule(name: string, shape: readonly number[]): Float32Array<ArrayBuffer> {
  const seed = fnv1a(name);
  const fanIn = shape.slice(1).reduce((product, length) => product * length, 1);
  const bound = Math.sqrt(6 / fanIn);
  const values = new Float32Array(shape.reduce((product, length) => product * length, 1));
  for (let i = 0; i < values.length; i++) {
    const u = hashed(i, seed);
    if (shape.length > 1) values[i] = (2 * u - 1) * bound;
    else values[i] = /running_var$|bn\.weight$/.test(name) ? 0.5 + u : 0.4 * u - 0.2;
  }
  return values;
}

/** The images of extractor_reference.py. */
export function imagesByRule({ count, height, width }: Reference['images']): FeatureImage[] {
  return Array.from({ length: count }, (_, n) => {
    const data = new Uint8Array(height * width * 3);
    for (let c = 0; c < 3; c++)
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++) {
          const noise = Math.floor(32 * hashed(((n * 3 + c) * height + y) * width + x, 7));
          const wave = (3 * x + 5 * y + Math.floor((2 * x * y) / 7) + 61 * c + 97 * n) % 224;
          data[(y * width + x) * 3 + c] = wave + noise;
        }
    return { data, height, width, channels: 3 };
  });
}

/** Compares a layer with torch's, relative to the layer's root mean square. Returns the largest deviation. */
export function expectLayer(
  name: string,
  data: Float32Array,
  dims: readonly number[],
  reference: LayerSummary,
  tolerance: number,
): number {
  expect(dims, name).toEqual(reference.shape);
  const { samples } = reference;
  const deviations = samples.map((expected, i) => {
    const at = Math.floor((i * (data.length - 1)) / (samples.length - 1));
    return Math.abs((data[at] as number) - expected) / reference.rms;
  });
  const largest = Math.max(...deviations);
  expect(largest, `samples of ${name}`).toBeLessThan(tolerance);
  const rms = Math.sqrt(data.reduce((sum, value) => sum + value * value, 0) / data.length);
  expect(Math.abs(rms / reference.rms - 1), `rms of ${name}`).toBeLessThan(tolerance);
  return largest;
}
