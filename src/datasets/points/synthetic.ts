import { RandomStream, STREAM } from '../../random/random-stream.ts';

/** A point set defined by a formula and noise, from scikit-learn or the first author's public 2-D code. */
interface SyntheticSet {
  /** Standard deviation of the noise on each axis. */
  readonly defaultNoise: number;
  /** The noiseless point `index` of `count`. */
  point(stream: RandomStream, index: number, count: number): readonly [number, number];
}

/** t cos t, t sin t for t in [1.5 pi, 4.5 pi): axes 0 and 2 of sklearn.datasets.make_swiss_roll. */
export const swissRollPoint = (t: number) => [t * Math.cos(t), t * Math.sin(t)] as const;
/** sin t, sign(t) (cos t - 1) for t in [-1.5 pi, 1.5 pi): axes 0 and 2 of sklearn.datasets.make_s_curve. */
export const sCurvePoint = (t: number) => [Math.sin(t), Math.sign(t) * (Math.cos(t) - 1)] as const;
/** The two half circles of sklearn.datasets.make_moons; a in [0, pi]. */
export const outerMoonPoint = (a: number) => [Math.cos(a), Math.sin(a)] as const;
export const innerMoonPoint = (a: number) => [1 - Math.cos(a), 0.5 - Math.sin(a)] as const;

const GAUSSIAN_CIRCLE_RADIUS = 8;

export const SYNTHETIC_SETS = {
  'swiss-roll': { defaultNoise: 0.5, point: (stream) => swissRollPoint(1.5 * Math.PI * (1 + 2 * stream.uniform())) },
  moons: {
    defaultNoise: 0.05,
    point: (_stream, index, count) => {
      const outer = Math.floor(count / 2);
      const angle = (i: number, n: number) => (n > 1 ? (Math.PI * i) / (n - 1) : 0);
      return index < outer ? outerMoonPoint(angle(index, outer)) : innerMoonPoint(angle(index - outer, count - outer));
    },
  },
  's-curve': { defaultNoise: 0.1, point: (stream) => sCurvePoint(3 * Math.PI * (stream.uniform() - 0.5)) },
  '8-gaussians': {
    defaultNoise: 1,
    point: (stream) => {
      const angle = (Math.PI / 4) * stream.integer(8);
      return [GAUSSIAN_CIRCLE_RADIUS * Math.cos(angle), GAUSSIAN_CIRCLE_RADIUS * Math.sin(angle)];
    },
  },
} as const satisfies Readonly<Record<string, SyntheticSet>>;

/** A set of points that the package draws itself, by its name in `loadPoints`. */
export type SyntheticName = keyof typeof SYNTHETIC_SETS;

export function isSyntheticName(name: string): name is SyntheticName {
  return Object.hasOwn(SYNTHETIC_SETS, name);
}

/** `count` raw points, row-major. */
export function syntheticPoints(
  name: SyntheticName,
  options: { count: number; noise?: number | undefined; seed: number },
): Float64Array {
  const set: SyntheticSet = SYNTHETIC_SETS[name];
  const { count, noise = set.defaultNoise, seed } = options;
  const stream = new RandomStream(seed, STREAM.dataset, Object.keys(SYNTHETIC_SETS).indexOf(name));
  const points = new Float64Array(2 * count);
  for (let i = 0; i < count; i++) {
    const [x, y] = set.point(stream, i, count);
    points[2 * i] = x + noise * stream.normal();
    points[2 * i + 1] = y + noise * stream.normal();
  }
  return points;
}
