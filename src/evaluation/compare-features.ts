import { InvalidArgumentError } from '../errors.ts';
import type { GaussianStatistics } from '../metrics/frechet/feature-statistics.ts';
import { frechetDistance } from '../metrics/frechet/fid.ts';
import { inceptionScore } from '../metrics/kernel/inception-score.ts';
import { kernelDistance } from '../metrics/kernel/kid.ts';
import { createBlockGemm } from '../metrics/linalg/block-gemm.ts';
import type { PointCloud } from '../metrics/prdc/point-cloud.ts';
import { precisionRecallDensityCoverageOnDevice } from '../metrics/prdc/prdc-on-device.ts';
import { RandomStream, STREAM } from '../random/random-stream.ts';
import type { EvaluateOptions, EvaluateSettings, MetricName } from './evaluate-options.ts';

/** What the metrics need of one side; `features` for kid and prdc, `statistics` for fid, `logits` for is. */
export interface ComparedFeatures {
  readonly statistics?: GaussianStatistics | undefined;
  readonly features?: PointCloud | undefined;
  readonly logits?: PointCloud | undefined;
}

/** Whether a metric compares features one by one, so that they have to be kept. */
export const keepsFeatures = (metric: MetricName) => metric === 'kid' || metric === 'prdc';

/** Every metric, by the names of `EvaluationReport.metrics`. */
export async function compareFeatures(
  metrics: readonly MetricName[],
  real: ComparedFeatures,
  fake: ComparedFeatures,
  settings: EvaluateSettings,
  { on_progress, signal }: Pick<EvaluateOptions, 'on_progress' | 'signal'>,
): Promise<Record<string, number>> {
  const values: Record<string, number> = {};
  for (const metric of new Set(metrics)) {
    signal?.throwIfAborted();
    const onProgress = (fraction: number) => on_progress?.(fraction, metric);
    onProgress(0);
    if (metric === 'fid')
      values.fid = frechetDistance(needed(real.statistics, metric), needed(fake.statistics, metric));
    if (metric === 'kid') {
      const [realRows, fakeRows] = [needed(real.features, metric), needed(fake.features, metric)];
      const products = await createBlockGemm('cpu');
      try {
        const { mean, std } = await kernelDistance(realRows, fakeRows, {
          num_subsets: settings.kid_subsets,
          subset_size: settings.kid_subset_size,
          seed: settings.seed,
          block_products: products,
          on_progress: onProgress,
          signal,
        });
        Object.assign(values, { kid_mean: mean, kid_std: std });
      } finally {
        await products.dispose();
      }
    }
    if (metric === 'is') {
      // A folder sorted by class would put one class into one split: torch-fidelity shuffles too.
      const { mean, std } = inceptionScore(shuffled(needed(fake.logits, metric), settings.seed), {
        splits: settings.is_splits,
      });
      Object.assign(values, { is_mean: mean, is_std: std });
    }
    if (metric === 'prdc') {
      const prdc = await precisionRecallDensityCoverageOnDevice(
        needed(real.features, metric),
        needed(fake.features, metric),
        { nearest_k: settings.nearest_k, on_progress: onProgress, signal },
      );
      Object.assign(values, prdc);
    }
    onProgress(1);
  }
  return values;
}

/**
 * Refuses before any work what the metrics would refuse in the end.
 *
 * @throws {InvalidArgumentError} for sets that are too small for k, a subset or the splits.
 */
export function checkSizes(
  metrics: readonly MetricName[],
  real: number | undefined,
  fake: number | undefined,
  { nearest_k, kid_subset_size = 2, is_splits }: EvaluateSettings,
): void {
  const least: Record<MetricName, readonly [samples: number, reason: string]> = {
    fid: [2, 'a covariance'],
    kid: [kid_subset_size, 'a subset of KID'],
    is: [is_splits, `${is_splits} splits`],
    prdc: [nearest_k + 1, `the ${nearest_k} nearest neighbours`],
  };
  for (const metric of metrics) {
    const [samples, reason] = least[metric];
    for (const [role, count] of Object.entries(metric === 'is' ? { fake } : { real, fake })) {
      if (count === undefined || count >= samples) continue;
      throw new InvalidArgumentError(
        `${role} has ${count} samples, but '${metric}' needs at least ${samples} for ${reason}: give more samples, or smaller settings`,
      );
    }
  }
}

function shuffled({ data, count, dims }: PointCloud, seed: number): PointCloud {
  const rows = new Float32Array(data.length);
  new RandomStream(seed, STREAM.metrics, 3).permutation(count).forEach((row, at) => {
    rows.set(data.subarray(row * dims, (row + 1) * dims), at * dims);
  });
  return { data: rows, count, dims };
}

function needed<T>(value: T | undefined, metric: MetricName): T {
  if (value !== undefined) return value;
  throw new InvalidArgumentError(`'${metric}' cannot be computed from these inputs`);
}
