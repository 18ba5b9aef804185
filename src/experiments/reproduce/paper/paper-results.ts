/**
 * The published figures of "Iso-Diffusion: Improving Diffusion Probabilistic Models Using the Isotropy of the Additive
 * Gaussian Noise" (arXiv 2403.16790): Tables 1 to 6. Each value is the mean of 3 training runs; no spread is given.
 */
import type { SyntheticName } from '../../../datasets/points/synthetic.ts';

export const PAPER_SOURCE = 'arXiv 2403.16790';

export const PRDC_METRICS = ['precision', 'recall', 'density', 'coverage'] as const;
export type PrdcMetric = (typeof PRDC_METRICS)[number];

/** The weights λ of Tables 2 to 5; 0 is DDPM. */
export const PAPER_LAMBDAS = [0, 0.01, 0.05, 0.1, 0.2, 0.3] as const;

/** Tables 2 to 5: one value for each of `PAPER_LAMBDAS`. */
export const PAPER_POINTS: Readonly<Record<SyntheticName, Readonly<Record<PrdcMetric, readonly number[]>>>> = {
  'swiss-roll': {
    precision: [0.9, 0.93, 0.971, 0.982, 0.99, 0.983],
    recall: [0.998, 0.998, 0.992, 0.984, 0.983, 0.96],
    density: [0.83, 0.885, 0.955, 0.989, 1, 1],
    coverage: [0.895, 0.9, 0.92, 0.917, 0.875, 0.85],
  },
  moons: {
    precision: [0.987, 0.98, 0.985, 0.991, 0.995, 0.992],
    recall: [0.999, 0.999, 0.998, 0.997, 0.991, 0.992],
    density: [0.957, 0.942, 0.957, 0.979, 0.992, 1],
    coverage: [0.943, 0.926, 0.947, 0.938, 0.924, 0.9],
  },
  's-curve': {
    precision: [0.989, 0.988, 0.989, 0.991, 0.992, 0.993],
    recall: [0.996, 0.996, 0.994, 0.993, 0.989, 0.983],
    density: [0.978, 0.969, 0.974, 0.977, 0.982, 0.986],
    coverage: [0.938, 0.931, 0.925, 0.921, 0.91, 0.898],
  },
  '8-gaussians': {
    precision: [0.994, 0.995, 0.995, 0.996, 0.996, 0.997],
    recall: [0.997, 0.997, 0.996, 0.995, 0.992, 0.988],
    density: [0.983, 0.982, 0.983, 0.986, 0.988, 0.989],
    coverage: [0.932, 0.936, 0.931, 0.924, 0.918, 0.9],
  },
};

/** The weight that Table 1 uses for each set. Its values are those of Tables 2 to 5. */
export const TABLE_1_LAMBDAS: Readonly<Record<SyntheticName, number>> = {
  'swiss-roll': 0.1,
  moons: 0.1,
  's-curve': 0.2,
  '8-gaussians': 0.3,
};

export const IMAGE_METRICS = ['fid', 'inception_score', ...PRDC_METRICS] as const;
export type ImageMetric = (typeof IMAGE_METRICS)[number];

/** Table 6: DDPM, Iso-Diffusion. Its λ is not published with the figures. */
export const PAPER_IMAGES: Readonly<Record<string, Readonly<Record<ImageMetric, readonly [number, number]>>>> = {
  'oxford-flowers-102': {
    fid: [49.6, 44.77],
    inception_score: [3.93, 3.94],
    precision: [0.75, 0.86],
    recall: [0.21, 0.14],
    density: [2.48, 3.99],
    coverage: [0.93, 0.97],
  },
  'oxford-iiit-pet': {
    fid: [34, 34.47],
    inception_score: [12, 12],
    precision: [0.71, 0.8],
    recall: [0.29, 0.24],
    density: [2.11, 2.99],
    coverage: [0.98, 0.99],
  },
};

/** The published value for points at a weight; undefined where the paper has none. */
export function paperValue(dataset: SyntheticName, lambda: number, metric: PrdcMetric): number | undefined {
  return PAPER_POINTS[dataset][metric][(PAPER_LAMBDAS as readonly number[]).indexOf(lambda)];
}
