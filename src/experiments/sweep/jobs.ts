import type { CompareJob, DrawJob, TrainingJob } from '../jobs/job.ts';

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
