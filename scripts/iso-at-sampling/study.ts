// What is run: sets, weights, seeds and settings, decided before the runs.
import type { SyntheticName } from '../../src/datasets/points/synthetic.ts';
import type { ImageSettings, Job, PointSettings, TrainingJob } from '../../src/experiments/jobs/job.ts';
import { PRESET_SETTINGS } from '../../src/experiments/reproduce/presets.ts';
import { comparedWithBase, drawnWithLambda, drawnWithScale, withLambda } from '../../src/experiments/sweep/jobs.ts';

/** Differences that do not matter. They were chosen before the first run. */
export const MARGINS = { precision: 0.003, recall: 0.003, density: 0.01, coverage: 0.01 } as const;
/** Factors of the predicted noise, from Epsilon Scaling's side of 1 to the penalty's. */
export const SCALES = [0.97, 0.98, 0.99, 1.01, 1.02, 1.03, 1.05, 1.07, 1.1];

const POINT_LAMBDAS = [0.05, 0.1, 0.2, 0.3];
const DIGIT_LAMBDAS = [0.1, 0.3];
const POINT_SETS = {
  'swiss-roll': 'Swiss Roll',
  moons: 'Moons',
  's-curve': 'S-Curve',
  '8-gaussians': '8-Gaussians',
} as const satisfies Partial<Record<SyntheticName, string>>;

const POINT_SETTINGS: PointSettings = { ...PRESET_SETTINGS.paper.points, device: 'cpu' };
const DIGIT_SETTINGS: ImageSettings = {
  ...PRESET_SETTINGS.smoke.images,
  epochs: 30,
  batch_size: 64,
  num_inference_steps: 50,
  samples: 1000,
  logits_extractor: null,
  device: 'cpu',
};

/** One set of the study. */
export interface StudySet {
  readonly name: string;
  readonly title: string;
  /** The jobs without the penalty, one a seed. */
  readonly bases: readonly TrainingJob[];
  readonly lambdas: readonly number[];
  /** Empty where the factors are not tried. */
  readonly scales: readonly number[];
}

/** Changes for a trial of the machinery. Its figures mean nothing. */
export interface StudyChanges {
  readonly epochs?: number | undefined;
  /** Points of a set, and generated digits. */
  readonly samples?: number | undefined;
  readonly steps?: number | undefined;
}

export function studySets(seeds: number, { epochs, samples, steps }: StudyChanges = {}): StudySet[] {
  const eachSeed = (job: (seed: number) => TrainingJob) => Array.from({ length: seeds }, (_, seed) => job(seed));
  const pointSets = Object.entries(POINT_SETS).map(([name, title]) => ({
    name,
    title,
    bases: eachSeed((seed) => ({
      ...POINT_SETTINGS,
      kind: 'points',
      dataset: name as SyntheticName,
      lambda: 0,
      seed,
      points: samples ?? POINT_SETTINGS.points,
      epochs: epochs ?? POINT_SETTINGS.epochs,
      num_inference_steps: steps ?? POINT_SETTINGS.num_inference_steps,
    })),
    lambdas: POINT_LAMBDAS,
    scales: name === 'swiss-roll' ? SCALES : [],
  }));
  const digits = {
    name: 'digits',
    title: 'Digits',
    bases: eachSeed((seed) => ({
      ...DIGIT_SETTINGS,
      kind: 'images',
      name: 'digits',
      source: 'digits',
      data_dir: null,
      lambda: 0,
      seed,
      samples: samples ?? DIGIT_SETTINGS.samples,
      epochs: epochs ?? DIGIT_SETTINGS.epochs,
      num_inference_steps: steps ?? DIGIT_SETTINGS.num_inference_steps,
    })),
    lambdas: DIGIT_LAMBDAS,
    scales: SCALES,
  };
  return [...pointSets, digits];
}

/** All runs. Those of the first seed come first: a stopped study then has a run of every kind. */
export function studyJobs(sets: readonly StudySet[]): Job[] {
  const seeds = sets[0]?.bases.length ?? 0;
  return Array.from({ length: seeds }, (_, seed) => seed).flatMap((seed) =>
    sets.flatMap(({ bases, lambdas, scales }): Job[] => {
      const base = bases[seed];
      if (!base) return [];
      return [
        base,
        ...lambdas.map((lambda) => withLambda(base, lambda)),
        ...lambdas.flatMap((lambda) => [drawnWithLambda(base, lambda), comparedWithBase(base, lambda)]),
        ...scales.map((scale) => drawnWithScale(base, scale)),
      ];
    }),
  );
}
