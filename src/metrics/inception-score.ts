import { requireObject } from '../arguments.ts';
import { InvalidArgumentError } from '../errors.ts';
import { RandomStream, STREAM } from '../random/random-stream.ts';
import {
  checkPointCloud,
  type Metric,
  meanAndStd,
  type PointCloud,
  pickRows,
  requireInteger,
  requireSamples,
} from './metric.ts';

/** The options of the metric 'is'. */
export interface InceptionScoreSettings {
  /** Parts of the generated set, each with a score of its own: an integer of at least 1. Default 10. */
  readonly is_splits: number;
  /**
   * Whether the images go to the parts in a random order, as torch-fidelity's `samples_shuffle`. A folder that is sorted
   * by class would otherwise put one class into one part. Default true.
   */
  readonly is_shuffle: boolean;
}

/** 'is': the Inception Score of the generated images. */
export const inceptionScoreMetric: Metric<InceptionScoreSettings> = {
  kinds: ['images'],
  needs: { fake: ['logits'] },
  options: { is_splits: 10, is_shuffle: true },
  better: { is_mean: 'higher' },
  check({ fake }, { is_splits }) {
    requireInteger('is_splits', is_splits, 1);
    requireSamples('is', { fake }, is_splits, `${is_splits} splits`);
  },
  compute({ fake: { logits }, options: { is_splits, is_shuffle }, seed }) {
    const order = () => new RandomStream(seed, STREAM.metrics, 3).permutation(logits.count);
    const { mean, std } = inceptionScore(is_shuffle ? pickRows(logits, order()) : logits, { splits: is_splits });
    return { is_mean: mean, ...(std === undefined ? {} : { is_std: std }) };
  },
};

/** Options of `inceptionScore`. */
export interface InceptionScoreOptions {
  /** Parts of the set, each with a score of its own: an integer of at least 1. Default 10. */
  readonly splits?: number | undefined;
}

/** Scores are from 1 to the number of classes. */
export interface InceptionScore {
  /** Over the parts. */
  mean: number;
  /** With divisor `splits`, as numpy's `std`; undefined for one split. */
  std: number | undefined;
}

/**
 * The Inception Score exp(E KL(p(y|x) ‖ p(y))) (Salimans et al. 2016) in float64, over consecutive parts of the set
 * in the given order. Where the parts cannot be equal, their sizes differ by one (as in torch-fidelity).
 *
 * @param logits of the classifier (`logits_unbiased` of the FID Inception), count x classes.
 * @throws {InvalidArgumentError} for values that are not finite, fewer vectors than splits, or wrong `splits`.
 *
 * @example
 * const { mean, std } = inceptionScore({ data: logits, count: 50_000, dims: 1008 }, { splits: 10 });
 */
export function inceptionScore(logits: PointCloud, options: InceptionScoreOptions = {}): InceptionScore {
  requireObject('the options of inceptionScore', options);
  const { splits = 10 } = options;
  requireInteger('splits', splits, 1);
  checkPointCloud('logits', logits);
  if (logits.count < splits)
    throw new InvalidArgumentError(
      `logits has ${logits.count} vectors, fewer than splits ${splits}. Give more images or fewer splits.`,
    );
  const scores = Array.from({ length: splits }, (_, part) =>
    scoreOf(logits, Math.floor((part * logits.count) / splits), Math.floor(((part + 1) * logits.count) / splits)),
  );
  return meanAndStd(scores);
}

/** E KL(p(y|x) ‖ p(y)) = E Σ p log p - Σ p̄ log p̄, with p̄ the mean of p over the part. */
function scoreOf({ data, dims }: PointCloud, start: number, end: number): number {
  const marginal = new Float64Array(dims);
  let negativeEntropy = 0;
  for (let row = start; row < end; row++) {
    const logits = data.subarray(row * dims, (row + 1) * dims);
    const largest = logits.reduce((a, b) => Math.max(a, b));
    const logSum = largest + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - largest), 0));
    for (let d = 0; d < dims; d++) {
      const logProbability = (logits[d] as number) - logSum;
      const probability = Math.exp(logProbability);
      marginal[d] = (marginal[d] as number) + probability;
      // Math.exp underflows long before 0 · log 0 matters.
      negativeEntropy += probability * logProbability;
    }
  }
  const count = end - start;
  const marginalNegativeEntropy = marginal.reduce((sum, total) => {
    const probability = total / count;
    return probability > 0 ? sum + probability * Math.log(probability) : sum;
  }, 0);
  return Math.exp(negativeEntropy / count - marginalNegativeEntropy);
}
