import path from 'node:path';
import { loadPoints } from '../../datasets/index.ts';
import { dataSetKind } from '../../datasets/named-data-set.ts';
import { isSyntheticName } from '../../datasets/points/synthetic.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { exists } from '../../files/regular-file.ts';
import { checkImageSet } from '../jobs/image-sets.ts';
import { type CompareJob, type DrawJob, type Job, nameOfSource, type TrainingJob } from '../jobs/job.ts';
import type { SweepSettings } from './options.ts';

/** The job that trains the same model from the same seed with another weight of the penalty. */
export function withLambda<Model extends TrainingJob>(model: Model, lambda: number): Model {
  return { ...model, lambda };
}

/**
 * A job that draws what the trained job of this weight draws, from the same noise, but from the model without the penalty: its
 * predicted noise is scaled as the formula says (docs/theory.md).
 *
 * @param base trained with lambda 0.
 */
export function drawnWithLambda(base: TrainingJob, lambda: number): DrawJob {
  return { kind: 'draw', model: base, scaling: { iso_lambda: lambda } };
}

/** A job that draws from a model with its predicted noise times a number. */
export function drawnWithScale(base: TrainingJob, noise_scale: number): DrawJob {
  return { kind: 'draw', model: base, scaling: { noise_scale } };
}

/** A job that compares the model of a weight with that of lambda 0, timestep by timestep. */
export function comparedWithBase(base: TrainingJob, lambda: number): CompareJob {
  return { kind: 'compare', model: withLambda(base, lambda), base };
}

/**
 * The run of weight 0 and the first seed, and the number of samples it trains on. The data is read, so that a set that cannot be used stops the sweep before its
 * first run.
 *
 * @throws {InvalidArgumentError} for an option of the other kind of data, and what the loaders and models throw.
 */
export async function firstJob(settings: SweepSettings): Promise<{ first: TrainingJob; samples: number }> {
  const { dataset, seed, nearest_k, device, num_train_epochs, learning_rate, num_inference_steps } = settings;
  const { per_device_train_batch_size: batch_size } = settings;
  const common = { lambda: 0, seed, nearest_k, device, num_train_timesteps: 1000 } as const;
  if ((await dataSetKind(dataset)) === 'points') {
    refuse(settings, ['resolution', 'model', 'samples', 'extractor'], `'${dataset}' has points`);
    const { count } = await loadPoints(dataset, { n: settings.n, seed });
    if (count <= nearest_k)
      throw new InvalidArgumentError(`'${dataset}' has ${count} points, but nearest_k ${nearest_k} needs more`);
    const first: TrainingJob = {
      ...common,
      kind: 'points',
      dataset: (await exists(dataset)) ? path.resolve(dataset) : dataset,
      points: settings.n ?? (isSyntheticName(dataset) ? count : null),
      epochs: num_train_epochs ?? 1000,
      batch_size: batch_size ?? 512,
      learning_rate: learning_rate ?? 1e-3,
      hidden_features: 128,
      num_inference_steps: num_inference_steps ?? 1000,
    };
    return { first, samples: count };
  }
  refuse(settings, ['n'], `'${dataset}' has images`);
  const extractor = settings.extractor ?? 'inception';
  const images = {
    resolution: settings.resolution ?? 64,
    model: settings.model ?? 'small',
    epochs: num_train_epochs ?? 100,
    batch_size: batch_size ?? 16,
    learning_rate: learning_rate ?? 2e-4,
    random_flip: false,
    num_train_timesteps: common.num_train_timesteps,
    num_inference_steps: num_inference_steps ?? 250,
    samples: settings.samples ?? null,
    nearest_k,
    extractor,
    logits_extractor: null,
    is_splits: 1,
    device,
  } as const;
  const set = { name: nameOfSource(dataset), source: dataset, data_dir: null };
  const samples = await checkImageSet(set, images);
  return { first: { ...common, ...images, ...set, kind: 'images' }, samples };
}

function refuse(settings: SweepSettings, names: readonly (keyof SweepSettings)[], why: string): void {
  const given = names.find((name) => settings[name] !== undefined);
  if (given !== undefined) throw new InvalidArgumentError(`${given} is ${settings[given]}, but ${why}: leave it out`);
}

/** What a sweep runs for each seed, those of the first seed first. */
export function sweepJobs(first: TrainingJob, lambdas: readonly number[], seeds: number, atSampling: boolean): Job[] {
  return Array.from({ length: seeds }, (_, run) => ({ ...first, seed: first.seed + run })).flatMap((base) =>
    lambdas.flatMap((lambda): Job[] => {
      if (lambda === 0) return [base];
      const drawn = drawnWithLambda(base, lambda);
      return atSampling ? [drawn] : [withLambda(base, lambda), drawn];
    }),
  );
}
