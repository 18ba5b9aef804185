// The runs of a sweep by weight, and what changes against weight 0.
import { type JobResult, jobName, type TrainingJob } from '../jobs/job.ts';
import { type Spread, spreadOf } from '../statistics/spread.ts';
import type { METRIC_TITLES } from '../text.ts';
import { drawnWithLambda, withLambda } from './jobs.ts';

/** A metric that a sweep reports, by its name in reports. */
export type SweepMetric = Exclude<keyof typeof METRIC_TITLES, 'inception_score'>;

/** Where a weight comes in: into the loss, or into the predicted noise of the model of weight 0. */
export type Place = 'training' | 'sampling';

/** A metric at a weight. */
export interface SweepValue {
  /** Mean and interval over the finished runs; undefined where none is finished. */
  readonly spread: Spread | undefined;
  /** The change against weight 0, over pairs of the same seed; undefined for weight 0 itself and where no pair is finished. */
  readonly change: Spread | undefined;
}

/** One weight at one place. */
export interface SweepCell {
  /** The weight. */
  readonly lambda: number;
  /** Whether it was in the loss, or came in at sampling. */
  readonly place: Place;
  /** Finished runs. */
  readonly runs: number;
  /** The metrics that were measured. */
  readonly values: Readonly<Partial<Record<SweepMetric, SweepValue>>>;
}

/** The cells of a sweep: weight 0, then every other weight, trained before sampled. */
export function sweepCells(
  bases: readonly TrainingJob[],
  lambdas: readonly number[],
  places: readonly Place[],
  results: ReadonlyMap<string, JobResult>,
): SweepCell[] {
  const names: readonly SweepMetric[] =
    bases[0]?.kind === 'images'
      ? ['precision', 'recall', 'density', 'coverage', 'fid']
      : ['precision', 'recall', 'density', 'coverage'];
  const metricsOf = (name: string) => {
    const result = results.get(name);
    return result && 'metrics' in result ? result.metrics : undefined;
  };
  const cell = (lambda: number, place: Place): SweepCell => {
    const pairs = bases.map((base) => {
      const job = place === 'training' ? withLambda(base, lambda) : drawnWithLambda(base, lambda);
      return { base: metricsOf(jobName(base)), own: metricsOf(jobName(lambda === 0 ? base : job)) };
    });
    const entries = names.map((name): [SweepMetric, SweepValue] => {
      const values = pairs.flatMap(({ own }) => metricOf(own, name) ?? []);
      const changes = pairs.flatMap(({ own, base }) => {
        const [after, before] = [metricOf(own, name), metricOf(base, name)];
        return after === undefined || before === undefined ? [] : [after - before];
      });
      return [name, { spread: spreadOf(values), change: lambda === 0 ? undefined : spreadOf(changes) }];
    });
    return {
      lambda,
      place,
      runs: pairs.filter(({ own }) => own !== undefined).length,
      values: Object.fromEntries(entries),
    };
  };
  const others = lambdas.filter((lambda) => lambda > 0);
  return [cell(0, 'training'), ...others.flatMap((lambda) => places.map((place) => cell(lambda, place)))];
}

function metricOf(metrics: object | undefined, name: SweepMetric): number | undefined {
  const value = Object.entries(metrics ?? {}).find(([key]) => key === name)?.[1];
  return typeof value === 'number' ? value : undefined;
}
