import { requireArray } from '../arguments.ts';
import { InvalidArgumentError } from '../errors.ts';
import { STREAM, streamStates } from './random-stream.ts';

/** One seed for all samples, or one seed for each. */
export type SampleSeed = number | readonly number[];

/** Layers of the ziggurat; a power of two. */
const ZIGGURAT_LAYERS = 128;
/** x where the base layer's tail begins, for 128 layers (Marsaglia & Tsang 2000). */
const zigguratTailStart = 3.442619855899;
/** Area of each layer under exp(-x^2 / 2). */
const LAYER_AREA = 9.91256303526217e-3;
/** Positions in a layer on either side of 0: 24 bits, float32's precision. */
const POSITIONS = 2 ** 24;

/**
 * The tables of the ziggurat for the normal density, layer 0 the base: `outerEdge` is the width of a layer divided by
 * the positions in it, `innerEdge` the width within which a position lies under the density for certain, `density` is
 * exp(-x^2 / 2) at the outer edge.
 */
const { outerEdge, innerEdge, density } = buildTables();
const LAYER_MASK = ZIGGURAT_LAYERS - 1;
const LAYER_BITS = 7;
const UNIT = 2 ** -32;

/**
 * One random stream per sample: its noise depends on its seed and its index alone, never on how many samples are drawn
 * with it. Sample i owns the xoshiro128++ stream (seed, STREAM.sampling, i); with a list of seeds,
 * (seeds[i], STREAM.sampling, 0), the stream of a lone sample with that seed. In training it is (seed, what is drawn, step,
 * i): any part of a step's samples gets the numbers that it has in the whole step.
 *
 * Normals come from the ziggurat of Marsaglia & Tsang (2000) with 128 layers; layer and position use different bits
 * of a draw, which removes the correlation of the original (Doornik 2005).
 *
 * @example
 * const streams = new SampleStreams(0, 1000, 2);
 * streams.fillNormal(new Float32Array(1000 * 2)); // the next two normals of each sample, row-major
 */
export class SampleStreams {
  /** Four words a sample. */
  private readonly states: Int32Array;

  /**
   * @param seed an integer >= 0, or a list of `firstSample + count` of them.
   * @param count the number of samples.
   * @param valuesPerSample normals a sample gets from one `fillNormal`.
   * @param firstSample index of the first sample: a block of a larger batch; default 0.
   * @param path what stands between the seed and the sample; default: `STREAM.sampling`.
   * @throws {InvalidArgumentError} when a seed is not a safe integer >= 0, or the list is too short.
   */
  constructor(
    seed: SampleSeed,
    readonly count: number,
    readonly valuesPerSample: number,
    firstSample = 0,
    path: readonly number[] = [STREAM.sampling],
  ) {
    this.states = new Int32Array(4 * count);
    if (typeof seed === 'number') {
      streamStates([checkedSeed(seed, firstSample), ...path], firstSample, this.states);
      return;
    }
    requireArray('the seeds', seed);
    for (let i = 0; i < count; i++) {
      const sample = firstSample + i;
      const own = this.states.subarray(4 * i, 4 * i + 4);
      streamStates([checkedSeed(seed[sample], sample), ...path], 0, own);
    }
  }

  /** Fills `target`, row-major [count, valuesPerSample], with the next standard normals of every sample. */
  fillNormal(target: Float32Array): Float32Array {
    if (target.length !== this.count * this.valuesPerSample)
      throw new InvalidArgumentError(
        `fillNormal needs an array of ${this.count} x ${this.valuesPerSample} values, but got ${target.length}`,
      );
    for (let i = 0, at = 0; i < this.count; i++)
      for (const end = at + this.valuesPerSample; at < end; at++) target[at] = this.normal(4 * i);
    return target;
  }

  /** Fills `target` with `target.length / count` uniform integers in [0, bound) a sample, one sample after the other. */
  fillIntegers<T extends Int32Array | Float32Array>(bound: number, target: T): T {
    const perSample = target.length / this.count;
    const limit = 4294967296 - (4294967296 % bound);
    for (let i = 0, at = 0; i < this.count; i++)
      for (const end = at + perSample; at < end; at++) {
        let bits = this.bits(4 * i) >>> 0;
        while (bits >= limit) bits = this.bits(4 * i) >>> 0;
        target[at] = bits % bound;
      }
    return target;
  }

  private normal(offset: number): number {
    for (;;) {
      const bits = this.bits(offset);
      const layer = bits & LAYER_MASK;
      // 25 signed bits, shifted by a half so that both signs are equally likely.
      const x = ((bits >> LAYER_BITS) + 0.5) * (outerEdge[layer] as number);
      if (Math.abs(x) < (innerEdge[layer] as number)) return x;
      if (layer === 0) return x < 0 ? -this.tail(offset) : this.tail(offset);
      const lower = density[layer] as number;
      const upper = density[layer - 1] as number;
      if (lower + this.openUniform(offset) * (upper - lower) < Math.exp(-0.5 * x * x)) return x;
    }
  }

  /** A normal above the last layer's edge (Marsaglia 1964). */
  private tail(offset: number): number {
    for (;;) {
      const x = -Math.log(this.openUniform(offset)) / zigguratTailStart;
      const y = -Math.log(this.openUniform(offset));
      if (2 * y > x * x) return zigguratTailStart + x;
    }
  }

  /** A uniform number in (0, 1). */
  private openUniform(offset: number): number {
    return ((this.bits(offset) >>> 0) + 0.5) * UNIT;
  }

  /** 32 random bits of xoshiro128++, as a signed integer; see `RandomStream.uint32`. */
  private bits(offset: number): number {
    const s = this.states;
    const s0 = s[offset] as number;
    const s1 = s[offset + 1] as number;
    const s2 = s[offset + 2] as number;
    const s3 = s[offset + 3] as number;
    const sum = (s0 + s3) | 0;
    const x2 = s2 ^ s0;
    const x3 = s3 ^ s1;
    s[offset] = s0 ^ x3;
    s[offset + 1] = s1 ^ x2;
    s[offset + 2] = x2 ^ (s1 << 9);
    s[offset + 3] = (x3 << 11) | (x3 >>> 21);
    return (((sum << 7) | (sum >>> 25)) + s0) | 0;
  }
}

function checkedSeed(seed: number | undefined, sample: number): number {
  if (typeof seed === 'number' && Number.isSafeInteger(seed) && seed >= 0) return seed;
  throw new InvalidArgumentError(
    `the seed of sample ${sample} is ${seed}: a seed is an integer from 0 to 2^53 - 1, and a list has one for each sample`,
  );
}

function buildTables(): { outerEdge: Float64Array; innerEdge: Float64Array; density: Float64Array } {
  const edges = new Float64Array(ZIGGURAT_LAYERS);
  edges[ZIGGURAT_LAYERS - 1] = zigguratTailStart;
  for (let layer = ZIGGURAT_LAYERS - 2; layer > 0; layer--) {
    const outer = edges[layer + 1] as number;
    edges[layer] = Math.sqrt(-2 * Math.log(LAYER_AREA / outer + Math.exp(-0.5 * outer * outer)));
  }
  const density = edges.map((edge) => Math.exp(-0.5 * edge * edge));
  const innerEdge = edges.map((_, layer) => edges[layer - 1] ?? zigguratTailStart);
  // The base layer is a rectangle and the tail; as a rectangle of equal area it would be this wide.
  const baseWidth = LAYER_AREA / (density[ZIGGURAT_LAYERS - 1] as number);
  const outerEdge = edges.map((edge, layer) => (layer === 0 ? baseWidth : edge) / POSITIONS);
  return { outerEdge, innerEdge, density };
}
