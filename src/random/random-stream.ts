/**
 * A seeded stream of random numbers: xoshiro128++ (Blackman & Vigna 2019). Its 128-bit state is made from the seed and
 * a path of integers. Every step, epoch or sample can own an independent stream, and the seed is all that a run must
 * remember to continue.
 *
 * @example
 * const stream = new RandomStream(42, STREAM.noise, 17); // the noise of step 17
 * stream.normal(); // standard normal, the same on every machine
 */
export class RandomStream {
  private readonly state: Uint32Array;
  private spareNormal: number | undefined;

  /** @param seed any safe integer >= 0. @param path integers that name the stream below the seed. */
  constructor(seed: number, ...path: number[]) {
    this.state = streamState(seed, path);
  }

  /** 32 random bits as an integer in [0, 2^32). */
  uint32(): number {
    const s = this.state;
    const s0 = s[0] as number;
    const s1 = s[1] as number;
    const s2 = s[2] as number;
    const s3 = s[3] as number;
    const sum = (s0 + s3) | 0;
    const result = (((sum << 7) | (sum >>> 25)) + s0) >>> 0;
    const x2 = s2 ^ s0;
    const x3 = s3 ^ s1;
    s[1] = s1 ^ x2;
    s[0] = s0 ^ x3;
    s[2] = x2 ^ (s1 << 9);
    s[3] = (x3 << 11) | (x3 >>> 21);
    return result;
  }

  /** A uniform number in [0, 1) with 53 random bits. */
  uniform(): number {
    const high = this.uint32() >>> 5;
    const low = this.uint32() >>> 6;
    return (high * 67108864 + low) / 9007199254740992;
  }

  /** A uniform integer in [0, bound), without modulo bias. */
  integer(bound: number): number {
    const limit = 4294967296 - (4294967296 % bound);
    for (;;) {
      const bits = this.uint32();
      if (bits < limit) return bits % bound;
    }
  }

  /** A standard normal number (Marsaglia's polar method). */
  normal(): number {
    const spare = this.spareNormal;
    if (spare !== undefined) {
      this.spareNormal = undefined;
      return spare;
    }
    for (;;) {
      const u = this.uint32() * 4.656612873077393e-10 - 1;
      const v = this.uint32() * 4.656612873077393e-10 - 1;
      const radius = u * u + v * v;
      if (radius < 1 && radius > 0) {
        const scale = Math.sqrt((-2 * Math.log(radius)) / radius);
        this.spareNormal = v * scale;
        return u * scale;
      }
    }
  }

  /** Fills `target` with standard normal numbers and returns it. */
  fillNormal<T extends Float32Array | Float64Array>(target: T): T {
    for (let i = 0; i < target.length; i++) target[i] = this.normal();
    return target;
  }

  /** A random permutation of 0..n-1 (Fisher-Yates). */
  permutation(n: number): Uint32Array {
    const order = Uint32Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      const kept = order[i] as number;
      order[i] = order[j] as number;
      order[j] = kept;
    }
    return order;
  }
}

/** The first path element of each kind of stream, so that no two uses of one seed share numbers. */
export const STREAM = {
  /** Initial weights. */
  init: 1,
  /** The order of the training samples. */
  order: 2,
  /** The noise of training. */
  noise: 4,
  /** What a pipeline draws. */
  sampling: 5,
  /** Synthetic points. */
  dataset: 6,
  /** Crops and flips of training images. */
  augmentation: 7,
  /** Subsets and orders of metrics. */
  metrics: 8,
  /** Dropout. */
  dropout: 9,
  /** The points that a plot shows. */
  plots: 10,
  /** Classes that are left out, for guidance. */
  class_dropout: 11,
  /** `noise_offset` of the trainer. */
  noise_offset: 12,
  /** `input_perturbation` of the trainer. */
  input_perturbation: 13,
  /** Latents that an autoencoder draws. */
  latents: 14,
} as const;

/** The initial xoshiro128++ state of the stream that `path` names below `seed`. */
export function streamState(seed: number, path: readonly number[]): Uint32Array {
  return streamStates([seed, ...path], undefined, new Uint32Array(4));
}

/**
 * The initial states of many streams, four words each: with `first`, those of the paths (...path, first), (...path, first
 * + 1) and so on, as many as `states` has room for. The hash of what they share is computed once.
 *
 * @param path the seed and what follows it.
 */
export function streamStates<States extends Uint32Array | Int32Array>(
  path: readonly number[],
  first: number | undefined,
  states: States,
): States {
  const words = path.flatMap((part) => [lowWord(part), highWord(part)]);
  const length = words.length + (first === undefined ? 0 : 2);
  const shared = Uint32Array.from({ length: 4 }, (_, lane) => words.reduce(folded, Math.imul(lane + 1, 0x9e3779b9)));
  for (let at = 0; at < states.length; at += 4) {
    const last = (first ?? 0) + at / 4;
    const [low, high] = [lowWord(last), highWord(last)];
    let union = 0;
    for (let lane = 0; lane < 4; lane++) {
      const hash = shared[lane] as number;
      const word = mix((first === undefined ? hash : folded(folded(hash, low), high)) ^ length);
      states[at + lane] = word;
      union |= word;
    }
    if (union === 0) states[at] = 1;
  }
  return states;
}

const lowWord = (part: number) => mix((part >>> 0) + 0x9e3779b9);
const highWord = (part: number) => mix((Math.floor(part / 4294967296) >>> 0) + 0x9e3779b9);

/** A word added to a hash (murmur3's finaliser over each word). */
function folded(hash: number, word: number): number {
  return mix((Math.imul(hash, 5) + 0xe6546b64) ^ word);
}

function mix(value: number): number {
  let h = value >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
