import { concatenated } from '../../graph/types.ts';
import { type GaussianStatistics, mergeStatistics } from '../../metrics/frechet/statistics.ts';
import type { MetricSide } from '../../metrics/metric.ts';
import { metrics } from '../../metrics/registry.ts';
import { type ChosenMetric, computeMetrics, preparedSide, reportedOptions } from '../chosen-metrics.ts';
import type { EvaluateOptions, EvaluationReport, ReportedExtractor } from '../options.ts';
import { type EvaluationPart, EvaluationPartError, formKey, type PartForms, type Role, shareText } from './part.ts';

/** The sides of an evaluation for its metrics, from all its parts. */
export interface JoinedSides {
  readonly chosen: readonly ChosenMetric[];
  /** A side by the extractor of that number. */
  side(role: Role, extractor: number): MetricSide;
  /** The statistics of all images by `formKey`, where there are any. */
  statistics(key: string): GaussianStatistics | undefined;
}

/**
 * What the shares found, together, as one process would have found it.
 *
 * @throws {EvaluationPartError} when a share is missing or is there twice, or they are of different evaluations.
 */
export function joinParts(given: readonly EvaluationPart[]): JoinedSides {
  const parts = inOrder(given);
  const [first] = parts as [EvaluationPart, ...EvaluationPart[]];
  const { of } = first.record;
  const chosen = of.metrics.map(({ name, options }) => ({ name, metric: metrics.get(name), options }));
  for (const { metric, options } of chosen) metric.check?.({ real: of.real.count, fake: of.fake.count }, options);
  const joined = new Map<string, MetricSide>();
  const statistics = new Map<string, GaussianStatistics>();
  for (const role of ['real', 'fake'] as const) {
    const logits = featuresOf(parts, formKey(role, 'logits'), of[role].count, of.logits);
    of.extractors.forEach((extractor, index) => {
      const key = formKey(role, index);
      const features = featuresOf(parts, key, of[role].count, extractor);
      const gaussian = statisticsOf(parts, key);
      if (gaussian) statistics.set(key, gaussian);
      joined.set(key, preparedSide(role, { statistics: gaussian, features, logits }));
    });
  }
  return {
    chosen,
    side: (role, extractor) => joined.get(formKey(role, extractor)) ?? preparedSide(role, {}),
    statistics: (key) => statistics.get(key),
  };
}

/** The values of the metrics, and what was compared. */
export async function reportOf(
  { record: { of } }: EvaluationPart,
  { chosen, side }: JoinedSides,
  { on_progress, signal }: Pick<EvaluateOptions, 'on_progress' | 'signal'>,
): Promise<EvaluationReport> {
  const { seed, real, fake, extractors, own, logits, caveat } = of;
  const sides = ({ name }: ChosenMetric) => {
    const index = own[name] ?? 0;
    return { real: side('real', index), fake: side('fake', index) };
  };
  const [extractor] = extractors as [ReportedExtractor, ...ReportedExtractor[]];
  const ofMetrics = Object.entries(own).map(([metric, index]) => [metric, extractors[index] ?? extractor] as const);
  return {
    metrics: await computeMetrics(chosen, sides, { seed, on_progress, signal }),
    real: { ...real, count: real.count },
    fake: { ...fake, count: fake.count },
    extractor,
    ...(ofMetrics.length > 0 ? { metric_extractors: Object.fromEntries(ofMetrics) } : {}),
    ...(logits ? { logits_extractor: logits } : {}),
    settings: { seed, ...reportedOptions(chosen) },
    ...(caveat === undefined ? {} : { warnings: [caveat] }),
  };
}

/** By their shares. */
function inOrder(parts: readonly EvaluationPart[]): EvaluationPart[] {
  const [first] = parts;
  if (!first) throw new EvaluationPartError('there are no shares to merge: give the file of each');
  const [, shares] = first.record.share;
  const sorted = [...parts].sort((a, b) => a.record.share[0] - b.record.share[0]);
  const different = parts.find(({ record }) => JSON.stringify(record.of) !== JSON.stringify(first.record.of));
  if (different || parts.some(({ record }) => record.share[1] !== shares))
    throw new EvaluationPartError(
      `the shares are of different evaluations: ${differences(first, different ?? first)}. Evaluate all with the same options and the same data`,
    );
  const numbers = sorted.map(({ record }) => record.share[0]);
  const missing = Array.from({ length: shares }, (_, i) => i + 1).find((index) => !numbers.includes(index));
  if (missing !== undefined || numbers.length > shares)
    throw new EvaluationPartError(
      missing === undefined
        ? `${numbers.length} shares are given, but there are only ${shares}: give each once`
        : `share ${shareText([missing, shares])} is missing: give the files of all ${shares}`,
    );
  return sorted;
}

function differences(first: EvaluationPart, other: EvaluationPart): string {
  const [a, b] = [first.record.of, other.record.of] as const;
  const keys = (Object.keys({ ...a, ...b }) as (keyof typeof a)[]).filter(
    (key) => JSON.stringify(a[key]) !== JSON.stringify(b[key]),
  );
  return keys.length === 0 ? 'they have other numbers of shares' : `they differ in ${keys.join(', ')}`;
}

function statisticsOf(parts: readonly EvaluationPart[], key: string): PartForms['statistics'] {
  const whole = parts.find(({ record }) => record.whole.includes(key));
  if (whole) return whole.forms.get(key)?.statistics;
  const found = parts.flatMap(({ forms }) => forms.get(key)?.statistics ?? []);
  // A process by itself has the statistics as they are: merging rounds.
  return found.length > 1 ? mergeStatistics(...found) : found[0];
}

function featuresOf(
  parts: readonly EvaluationPart[],
  key: string,
  count: number | undefined,
  extractor: ReportedExtractor | undefined,
): MetricSide['features'] | undefined {
  const found = parts.flatMap(({ forms }) => forms.get(key)?.features ?? []);
  const [first] = found;
  if (!extractor || !first) return undefined;
  const data = found.length === 1 ? first : concatenated(found);
  const { dims, name } = extractor;
  if (data.length === dims * (count ?? 0)) return { data, count: data.length / dims, dims };
  throw new EvaluationPartError(
    `the shares have features of ${data.length / dims} images by ${name}, but the set has ${count}: evaluate them again`,
  );
}
