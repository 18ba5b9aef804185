import { InvalidArgumentError } from '../errors.ts';
import type { Metric, MetricOption, MetricOptions, MetricSide, SampleCounts, SampleForm } from '../metrics/metric.ts';
import { metrics } from '../metrics/registry.ts';

/** A metric of an evaluation, with its options. */
export interface ChosenMetric {
  readonly name: string;
  readonly metric: Metric;
  readonly options: MetricOptions;
}

/** Options of `evaluate`, including those of metrics. */
type GivenOptions = { readonly metric_options?: MetricOptions | undefined } & object;

/**
 * The metrics with these names. Options that were not given have their defaults.
 *
 * @throws {InvalidArgumentError} for a name that is not registered, an option that no metric has, or a wrong value.
 */
export function chooseMetrics(names: readonly string[], given: GivenOptions): ChosenMetric[] {
  const values: Readonly<Record<string, unknown>> = { ...given, ...given.metric_options };
  const chosen = [...new Set(names)].map((name) => {
    const metric = metrics.get(name);
    const options: Record<string, MetricOption> = {};
    for (const [option, standard] of Object.entries<MetricOption>({ ...metric.options }))
      options[option] = checkedOption(option, values[option], standard);
    return { name, metric, options };
  });
  const known = chosen.flatMap(({ options }) => Object.keys(options));
  const unknown = Object.keys(given.metric_options ?? {}).find((option) => !known.includes(option));
  if (unknown !== undefined)
    throw new InvalidArgumentError(
      `metric_options has '${unknown}', which is not an option of ${names.join(', ')}: they have ${known.join(', ') || 'none'}`,
    );
  checkCounts(chosen, {});
  return chosen;
}

function checkedOption(name: string, value: unknown, standard: MetricOption): MetricOption {
  if (value === undefined) return standard;
  const isOption = typeof value === 'number' || typeof value === 'string' || typeof value === 'boolean';
  if (isOption && (standard === undefined || typeof value === typeof standard)) return value;
  throw new InvalidArgumentError(
    `${name} is ${JSON.stringify(value)}; it must be a ${standard === undefined ? 'number, string or boolean' : typeof standard}.`,
  );
}

/** @throws {InvalidArgumentError} for sets that are too small for a metric, before any work. */
function checkCounts(chosen: readonly ChosenMetric[], counts: SampleCounts): void {
  for (const { metric, options } of chosen) metric.check?.(counts, options);
}

/**
 * The metrics with the options that they choose for these numbers of samples.
 *
 * @throws {InvalidArgumentError} for sets that are too small for a metric, before any work.
 */
export function resolveOptions(chosen: readonly ChosenMetric[], counts: SampleCounts): ChosenMetric[] {
  checkCounts(chosen, counts);
  return chosen.map(({ name, metric, options }) => {
    const resolved: object = metric.resolveOptions?.(counts, options) ?? options;
    return { name, metric, options: { ...resolved } };
  });
}

/** All forms of samples that the metrics read of these sides. */
export function neededForms(
  chosen: readonly ChosenMetric[],
  ...roles: readonly ('real' | 'fake')[]
): ReadonlySet<SampleForm> {
  return new Set(chosen.flatMap(({ metric }) => roles.flatMap((role) => metric.needs[role] ?? [])));
}

/** @throws {InvalidArgumentError} for a metric that is not meaningful for such samples. */
export function refuseOtherKinds(chosen: readonly ChosenMetric[], kind: 'images' | 'points'): void {
  for (const { name, metric } of chosen) {
    const needsLogits = Object.values(metric.needs).some((forms) => forms.includes('logits'));
    if (kind === 'points' && needsLogits)
      throw new InvalidArgumentError(`'${name}' needs class logits of images; points have none`);
    if (!metric.kinds.includes(kind))
      throw new InvalidArgumentError(`'${name}' is a metric of ${metric.kinds.join(', ')}, not of ${kind}`);
  }
}

/** @throws {InvalidArgumentError} for a metric that needs samples of a side that is a file of statistics. */
export function refuseWithoutSamples(
  chosen: readonly ChosenMetric[],
  isStatistics: Readonly<Record<'real' | 'fake', boolean>>,
): void {
  const lacking = (['real', 'fake'] as const).filter((role) => isStatistics[role]);
  const impossible = chosen.find((one) => [...neededForms([one], ...lacking)].some((form) => form !== 'statistics'));
  if (!impossible) return;
  throw new InvalidArgumentError(
    lacking.length === 2
      ? `'${impossible.name}' needs samples, but both sides are statistics, which give 'fid' only`
      : `'${impossible.name}' compares images one by one, but one side is a file of statistics, which gives 'fid' only`,
  );
}

/** One side of a comparison, for metrics. Reading a form that was not prepared throws. */
export function preparedSide(
  role: 'real' | 'fake',
  forms: { readonly [Form in SampleForm]?: MetricSide[Form] | undefined },
): MetricSide {
  const made = <Form extends SampleForm>(form: Form): MetricSide[Form] => {
    const value: MetricSide[Form] | undefined = forms[form];
    if (value !== undefined) return value;
    throw new InvalidArgumentError(
      `a metric reads the ${form} of the ${role} samples: its 'needs' must list '${form}' under '${role}'`,
    );
  };
  return {
    get features() {
      return made('features');
    },
    get statistics() {
      return made('statistics');
    },
    get logits() {
      return made('logits');
    },
  };
}

interface ComputeOptions {
  readonly seed: number;
  readonly on_progress?: ((fraction: number, metric: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Computes one metric after another.
 *
 * @param sides the samples that a metric compares.
 * @returns all their values.
 * @throws {InvalidArgumentError} for a metric whose values are not numbers, or have the name of another metric's.
 */
export async function computeMetrics(
  chosen: readonly ChosenMetric[],
  sides: (one: ChosenMetric) => { readonly real: MetricSide; readonly fake: MetricSide },
  { seed, on_progress, signal }: ComputeOptions,
): Promise<Record<string, number>> {
  const values: Record<string, number> = {};
  for (const one of chosen) {
    const { name, metric, options } = one;
    signal?.throwIfAborted();
    const onProgress = (fraction: number) => on_progress?.(fraction, name);
    onProgress(0);
    const computed = await metric.compute({ ...sides(one), options, seed, on_progress: onProgress, signal });
    for (const [key, value] of Object.entries(computed)) {
      if (typeof value !== 'number' || key in values)
        throw new InvalidArgumentError(
          `the metric '${name}' returned '${key}', which ${key in values ? 'another metric returned already' : 'is not a number'}`,
        );
      values[key] = value;
    }
    onProgress(1);
  }
  return values;
}

/** The options of all metrics, for the report. */
export function reportedOptions(chosen: readonly ChosenMetric[]): Record<string, number | string | boolean> {
  const reported: Record<string, number | string | boolean> = {};
  for (const { options } of chosen)
    for (const [name, value] of Object.entries(options)) if (value !== undefined) reported[name] = value;
  return reported;
}
