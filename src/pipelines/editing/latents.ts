// The noise that a reverse process starts from: drawn by a seed, given, or between two others.
import type { Tensor } from '@huggingface/transformers';
import { InvalidArgumentError } from '../../errors.ts';
import { elementCount } from '../../graph/types.ts';
import { type Fields, numberOption } from '../../options.ts';
import { type SampleSeed, SampleStreams } from '../../random/sample-streams.ts';
import * as z from '../../zod.ts';
import { allFinite } from '../finite-checks.ts';

/** Noise in the shape of a batch: a Float32Array, row-major, or a float32 Tensor of transformers.js. */
export type Latents = Float32Array | Tensor;

/** The noise that drawing starts from. */
export interface LatentOptions {
  /**
   * The noise to start from in place of the seed's, [batch_size, ...shape of a sample]: standard normal, before the scheduler
   * scales it. The seed is left with the noise of later steps. Default: drawn by the seed.
   */
  readonly latents?: Latents | undefined;
}

const isFloat32Array = (value: unknown): value is Float32Array =>
  ArrayBuffer.isView(value) && Reflect.get(value, Symbol.toStringTag) === 'Float32Array';

export function isLatents(value: unknown): value is Latents {
  if (typeof value !== 'object' || value === null) return false;
  return isFloat32Array(value) || ('dims' in value && 'data' in value && isFloat32Array(value.data));
}

const latentsOption = z.custom<Latents>(isLatents, 'must be a Float32Array or a Tensor of float32');

export const latentShape = { latents: z.optional(latentsOption) } satisfies Fields<LatentOptions>;

/**
 * A copy of the given noise for `count` samples.
 *
 * @param name of the option, for errors.
 * @throws {InvalidArgumentError} when its shape is another one, or a value is not finite.
 */
export function readLatents(
  latents: Latents,
  count: number,
  sampleShape: readonly number[],
  name = 'latents',
): Float32Array {
  const wanted = [count, ...sampleShape];
  const dims = 'dims' in latents ? latents.dims : [latents.length];
  const given = 'dims' in latents ? latents.data : latents;
  const ofOneSample = count === 1 && String(dims) === String(sampleShape);
  const fits = 'dims' in latents ? String(dims) === String(wanted) || ofOneSample : true;
  const values = Float32Array.from(given as Float32Array);
  if (!fits || values.length !== elementCount(wanted))
    throw new InvalidArgumentError(
      `${name} has the shape [${dims.join(', ')}], but must have [${wanted.join(', ')}]: ${count} of the model's samples`,
    );
  if (allFinite(values)) return values;
  const wrong = values.findIndex((value) => !Number.isFinite(value));
  throw new InvalidArgumentError(`${name} must be finite, but value ${wrong} is ${values[wrong]}`);
}

/** The noise of a second seed for each sample, and how far each is towards it, 0 to 1. */
export interface Blend {
  readonly seed: readonly number[];
  readonly weights: readonly number[];
}

/** What a run's noise comes from. */
export interface NoiseCall {
  readonly seed: SampleSeed;
  /** The noise to start from, for all samples of the call. */
  readonly latents?: Float32Array | undefined;
  readonly blend?: Blend | undefined;
}

/** What a call's noise comes from, without the rest of the call. */
export const noiseOf = ({ seed, latents, blend }: NoiseCall): NoiseCall => ({ seed, latents, blend });

/** The noise of some samples of a call, each from a stream of its own. */
export interface NoiseStreams {
  readonly count: number;
  readonly valuesPerSample: number;
  /** Fills `target`, [count, valuesPerSample], with the next standard normals of every sample. */
  fillNormal(target: Float32Array): Float32Array;
}

export function noiseStreams({ seed, blend }: NoiseCall, count: number, size: number, first = 0): NoiseStreams {
  const streams = new SampleStreams(seed, count, size, first);
  if (!blend) return streams;
  const others = new SampleStreams(blend.seed, count, size, first);
  const fillNormal = (target: Float32Array) => {
    const other = others.fillNormal(new Float32Array(target.length));
    streams.fillNormal(target);
    for (let i = 0; i < count; i++) {
      const row = [i * size, (i + 1) * size] as const;
      target.set(slerp(target.subarray(...row), other.subarray(...row), blend.weights[first + i] ?? 0), row[0]);
    }
    return target;
  };
  return { count, valuesPerSample: size, fillNormal };
}

/**
 * The noise that samples start from, before the scheduler scales it. The streams are as far after it where it is given.
 *
 * @param first number of the first sample, by which given noise is found.
 */
export function startNoise({ latents }: NoiseCall, streams: NoiseStreams, first = 0): Float32Array {
  const size = streams.valuesPerSample;
  const drawn = streams.fillNormal(new Float32Array(streams.count * size));
  return latents ? latents.slice(first * size, (first + streams.count) * size) : drawn;
}

/** One end of an interpolation: a seed, or the noise of one sample, for instance of an inverted image. */
export type InterpolationEnd = number | Latents;

/** The noise of `count` samples from one end to the other, as a call draws with it. */
export interface Interpolation {
  readonly seed: readonly number[];
  readonly latents: Float32Array;
  readonly blend: Blend;
}

/**
 * Noise at even distances on the great circle between two ends. The first and the last sample have exactly the noise of the
 * ends, in later steps too.
 *
 * @param seed of the later steps' noise for an end that is given by its latents.
 * @throws {InvalidArgumentError} when an end or the number of samples is wrong.
 */
export function interpolation(
  from: unknown,
  to: unknown,
  count: number,
  seed: number,
  sampleShape: readonly number[],
): Interpolation {
  if (!Number.isInteger(count) || count < 2 || count > 2 ** 28)
    throw new InvalidArgumentError(`interpolate was asked for ${count} samples, but takes an integer from 2 to 2^28`);
  const start = readEnd(from, 'the first end', seed, sampleShape);
  const end = readEnd(to, 'the second end', seed, sampleShape);
  const size = elementCount(sampleShape);
  const weights = Array.from({ length: count }, (_, i) => i / (count - 1));
  const latents = new Float32Array(count * size);
  weights.forEach((weight, i) => {
    latents.set(slerp(start.noise, end.noise, weight), i * size);
  });
  const blend = { seed: weights.map(() => end.seed), weights };
  return { seed: weights.map(() => start.seed), latents, blend };
}

function readEnd(end: unknown, what: string, seed: number, sampleShape: readonly number[]) {
  if (isLatents(end)) return { noise: readLatents(end, 1, sampleShape, what), seed };
  const isSeed = numberOption.safeParse(end).success && Number.isSafeInteger(end) && Number(end) >= 0;
  if (!isSeed)
    throw new InvalidArgumentError(
      `${what} is ${typeof end === 'object' ? 'an object' : String(end)}, but must be a seed, an integer >= 0, or the latents of one sample`,
    );
  const own = Number(end);
  return { noise: startNoise({ seed: own }, new SampleStreams(own, 1, elementCount(sampleShape))), seed: own };
}

/** Vectors that are closer in direction than this are mixed on a line. */
const PARALLEL = 0.9995;

/** Spherical interpolation (Shoemake 1985): `weight` 0 and 1 give the ends bit for bit. */
function slerp(from: Float32Array, to: Float32Array, weight: number): Float32Array {
  if (weight === 0 || weight === 1) return weight === 0 ? from.slice() : to.slice();
  let [dot, squareFrom, squareTo] = [0, 0, 0];
  from.forEach((a, i) => {
    const b = to[i] as number;
    dot += a * b;
    squareFrom += a * a;
    squareTo += b * b;
  });
  const cosine = dot / Math.sqrt(squareFrom * squareTo);
  if (!(Math.abs(cosine) < PARALLEL)) return from.map((a, i) => a + weight * ((to[i] as number) - a));
  const angle = Math.acos(cosine);
  const [ofFrom, ofTo] = [Math.sin((1 - weight) * angle), Math.sin(weight * angle)].map((x) => x / Math.sin(angle));
  return from.map((a, i) => (ofFrom ?? 0) * a + (ofTo ?? 0) * (to[i] as number));
}
