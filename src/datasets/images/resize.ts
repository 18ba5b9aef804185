import type { ImageShape } from './augment.ts';
import { resampleBytes, type Taps } from './image-kernels.ts';
import type { Interpolation } from './image-set.ts';

/*
 * Pillow's resize (`Image.resize`, src/libImaging/Resample.c), to the bit: the antialiased filter, its weights in fixed
 * point, rounded to bytes between the two passes. Sets are made with Pillow everywhere else, and FID sees the difference:
 * libvips moves an enlarged image by half a pixel, and rounds the place of its filters to 1/64 of a pixel.
 */

/** A filter at a distance in pixels of the source, or of the target where that is smaller; 0 from `support` on. */
interface Filter {
  readonly support: number;
  weight(distance: number): number;
}

const FILTERS: Record<Interpolation, Filter> = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { support: 2, weight: (x) => cubic(Math.abs(x)) },
  lanczos: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** Keys' kernel with a = -0.5. */
function cubic(x: number): number {
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? -0.5 * (((x - 5) * x + 8) * x - 4) : 0;
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** Weights are multiples of 2^-22: the sum of 255 times all of them, with the overshoot of a filter, fits in 32 bits. */
const PRECISION = 22;

/** An axis of `from` pixels that becomes one of `to` pixels, of which `kept` from `start` on are wanted. */
interface Axis {
  readonly from: number;
  readonly to: number;
  readonly start: number;
  readonly kept: number;
}

function tapsOf({ from, to, start, kept }: Axis, { support, weight }: Filter): Taps<Float64Array> {
  const scale = from / to;
  const filterScale = Math.max(scale, 1);
  const reach = support * filterScale;
  const stride = Math.ceil(reach) * 2 + 1;
  const first = new Int32Array(kept);
  const count = new Int32Array(kept);
  const weights = new Float64Array(kept * stride);
  for (let i = 0; i < kept; i++) {
    const centre = (start + i + 0.5) * scale;
    const begin = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(from, Math.trunc(centre + reach + 0.5));
    let sum = 0;
    for (let x = begin; x < end; x++) {
      const value = weight((x - centre + 0.5) / filterScale);
      weights[i * stride + x - begin] = value;
      sum += value;
    }
    if (sum !== 0) for (let tap = 0; tap < end - begin; tap++) (weights[i * stride + tap] as number) /= sum;
    first[i] = begin;
    count[i] = end - begin;
  }
  return { first, count, weights, stride };
}

/** The taps with weights in fixed point. */
function inFixedPoint(taps: Taps<Float64Array>): Taps<Int32Array> {
  const weights = new Int32Array(taps.weights.length);
  for (let i = 0; i < weights.length; i++) {
    const scaled = (taps.weights[i] as number) * 2 ** PRECISION;
    weights[i] = Math.trunc(scaled + (scaled < 0 ? -0.5 : 0.5));
  }
  return { ...taps, weights };
}

/** The rectangle of a resized image that is kept; in pixels. */
export interface Window {
  /** Size of the whole image after resizing. */
  readonly height: number;
  readonly width: number;
  /** What is kept of it. */
  readonly top: number;
  readonly left: number;
  readonly keptHeight: number;
  readonly keptWidth: number;
}

/**
 * A part of a resized image, as Pillow resizes it. Only that part is computed.
 *
 * @param pixels HWC bytes. Colours of an image with 4 channels are weighted with its transparency, the fourth.
 */
export function resizeImage(
  pixels: Uint8Array,
  { height, width, channels }: ImageShape,
  window: Window,
  interpolation: Interpolation,
): Uint8Array {
  const columns = { from: width, to: window.width, start: window.left, kept: window.keptWidth };
  const rows = { from: height, to: window.height, start: window.top, kept: window.keptHeight };
  const changes = columns.from !== columns.to || rows.from !== rows.to;
  if (!changes && columns.kept === width && rows.kept === height) return pixels;
  const filter = FILTERS[interpolation];
  const source = channels === 4 && changes ? premultiplied(pixels) : pixels;
  const down = inFixedPoint(tapsOf(rows, filter));
  // Pillow leaves an axis that does not change untouched; the weights are then one 1 among zeros, which is the same.
  const firstRow = down.first.reduce((least, row) => Math.min(least, row), height);
  const endRow = down.first.reduce((most, row, i) => Math.max(most, row + (down.count[i] as number)), 0);
  const across = inFixedPoint(tapsOf(columns, filter));
  const rowsOfTaps = source.subarray(firstRow * width * channels, endRow * width * channels);
  const fromFirst = { ...down, first: down.first.map((row) => row - firstRow) };
  const resized = resampleBytes(rowsOfTaps, { width, channels }, across, fromFirst);
  return channels === 4 && changes ? straight(resized) : resized;
}

/** RGBA with the colours multiplied by the transparency, rounded as Pillow's `RGBa` is. */
function premultiplied(pixels: Uint8Array): Uint8Array {
  const out = new Uint8Array(pixels);
  for (let i = 0; i < out.length; i += 4) {
    const alpha = out[i + 3] as number;
    for (let c = i; c < i + 3; c++) {
      const product = (out[c] as number) * alpha + 128;
      out[c] = ((product >> 8) + product) >> 8;
    }
  }
  return out;
}

function straight(pixels: Uint8Array): Uint8Array {
  for (let i = 0; i < pixels.length; i += 4) {
    const alpha = pixels[i + 3] as number;
    if (alpha === 0 || alpha === 255) continue;
    for (let c = i; c < i + 3; c++) pixels[c] = Math.min(255, Math.trunc((255 * (pixels[c] as number)) / alpha));
  }
  return pixels;
}

/**
 * A resized image without rounding to bytes: each channel as Pillow resizes an image of mode 'F', in float32 between and
 * after the two passes. Values may overshoot 0 and 255.
 *
 * @param pixels HWC bytes.
 * @returns HWC values.
 */
export function resizeToFloats(
  pixels: Uint8Array,
  { height, width, channels }: ImageShape,
  to: { readonly height: number; readonly width: number },
  interpolation: Interpolation,
): Float32Array {
  const filter = FILTERS[interpolation];
  const across = tapsOf({ from: width, to: to.width, start: 0, kept: to.width }, filter);
  const narrow = new Float32Array(height * to.width * channels);
  resample(pixels, narrow, across, { lines: height, length: width, step: channels, values: channels });
  const down = tapsOf({ from: height, to: to.height, start: 0, kept: to.height }, filter);
  const resized = new Float32Array(to.height * to.width * channels);
  const row = to.width * channels;
  resample(narrow, resized, down, { lines: 1, length: height, step: row, values: row });
  return resized;
}

/** `lines` lines of `length` groups of `values`, `step` apart, each to as many groups as there are taps. */
function resample(
  source: Uint8Array | Float32Array,
  target: Float32Array,
  { first, count, weights, stride }: Taps<Float64Array>,
  { lines, length, step, values }: { lines: number; length: number; step: number; values: number },
): void {
  let at = 0;
  for (let line = 0; line < lines; line++) {
    for (let i = 0; i < first.length; i++) {
      const begin = (line * length + (first[i] as number)) * step;
      for (let value = 0; value < values; value++) {
        let sum = 0;
        for (let tap = 0; tap < (count[i] as number); tap++)
          sum += (source[begin + tap * step + value] as number) * (weights[i * stride + tap] as number);
        target[at++] = sum;
      }
    }
  }
}
