import { Registry } from '../registry.ts';
import { cmmd } from './cmmd.ts';
import { fdDinov2, fid } from './frechet/fid.ts';
import { inceptionScoreMetric } from './inception-score.ts';
import { kid } from './kid.ts';
import type { Metric } from './metric.ts';
import { prdc } from './prdc/prdc.ts';

const builtIn = { fid, kid, is: inceptionScoreMetric, prdc, 'fd-dinov2': fdDinov2, cmmd };

/**
 * The metrics by the names that `evaluate`, `EvaluationCallback` and the command line take.
 *
 * @example
 * metrics.register('mean-distance', meanDistance);
 */
export const metrics = new Registry<Metric>('metric', builtIn);

/** A built-in metric's name, which editors complete, or one that was registered. */
export type MetricName = keyof typeof builtIn | (string & {});

/** The options of the built-in metrics, all optional. */
export type BuiltInMetricOptions = Given<Intersection<(typeof builtIn)[keyof typeof builtIn]['options']>>;

type Given<Options> = { readonly [Name in keyof Options]?: Options[Name] | undefined };
type Intersection<Union> = (Union extends unknown ? (one: Union) => void : never) extends (all: infer All) => void
  ? All
  : never;
