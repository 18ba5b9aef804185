import { InvalidArgumentError } from '../../errors.ts';
import { checkPointCloud, type PointCloud } from '../prdc/point-cloud.ts';

export interface InceptionScoreOptions {
  /** Parts of the set, each with a score of its own; an integer >= 1, default 10. */
  splits?: number | undefined;
}

/** Scores are from 1 to the number of classes. */
export interface InceptionScore {
  mean: number;
  /** With divisor `splits`, as numpy's `std`; 0 for one split. */
  std: number;
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
  const { splits = 10 } = options;
  if (!Number.isInteger(splits) || splits < 1) {
    throw new InvalidArgumentError(`splits is ${splits}; it must be an integer of at least 1.`);
  }
  checkPointCloud('logits', logits);
  if (logits.count < splits) {
    throw new InvalidArgumentError(
      `logits has ${logits.count} vectors, fewer than splits ${splits}. Give more images or fewer splits.`,
    );
  }
  const scores = Array.from({ length: splits }, (_, part) =>
    scoreOf(
      logits,
      Math.floor((part * logits.count) / splits),
      Math.floor(((part + 1) * logits.count) / splits),
    ),
  );
  const mean = scores.reduce((sum, score) => sum + score, 0) / splits;
  const variance = scores.reduce((sum, score) => sum + (score - mean) ** 2, 0) / splits;
  return { mean, std: Math.sqrt(variance) };
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
