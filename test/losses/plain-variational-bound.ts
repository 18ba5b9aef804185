/**
 * guided-diffusion's `_vb_terms_bpd` (Dhariwal & Nichol 2021, gaussian_diffusion.py and losses.py) for ModelVarType
 * LEARNED_RANGE without clipping, in plain float64: the posteriors and predictions are written out as there, with nothing
 * from src, for one element at a time.
 */
export interface PlainElement {
  readonly t: number;
  readonly clean: number;
  readonly epsilon: number;
  readonly output: number;
  readonly variance: number;
}
export type PlainPrediction = 'epsilon' | 'v_prediction' | 'sample';

/** The term of one element, in bits. */
export function plainVariationalTerm(
  betas: ArrayLike<number>,
  predictionType: PlainPrediction,
  { t, clean, epsilon, output, variance }: PlainElement,
): number {
  const alphaBars = cumulativeProducts(betas);
  const alphaBar = Number(alphaBars[t]);
  const alphaBarPrevious = t > 0 ? Number(alphaBars[t - 1]) : 1;
  const beta = Number(betas[t]);
  const noisy = Math.sqrt(alphaBar) * clean + Math.sqrt(1 - alphaBar) * epsilon;
  const predictedClean = {
    epsilon: Math.sqrt(1 / alphaBar) * noisy - Math.sqrt(1 / alphaBar - 1) * output,
    v_prediction: Math.sqrt(alphaBar) * noisy - Math.sqrt(1 - alphaBar) * output,
    sample: output,
  }[predictionType];
  const posteriorMean = (start: number) =>
    ((beta * Math.sqrt(alphaBarPrevious)) / (1 - alphaBar)) * start +
    (((1 - alphaBarPrevious) * Math.sqrt(1 - beta)) / (1 - alphaBar)) * noisy;
  const posteriorVariance = (s: number) =>
    (Number(betas[s]) * (1 - (s > 0 ? Number(alphaBars[s - 1]) : 1))) / (1 - Number(alphaBars[s]));
  const posteriorLogVariance = Math.log(posteriorVariance(t === 0 ? 1 : t));
  const fraction = (variance + 1) / 2;
  const logVariance = fraction * Math.log(beta) + (1 - fraction) * posteriorLogVariance;
  const mean = posteriorMean(predictedClean);
  const nats =
    t === 0
      ? -logLikelihoodOfLevel(clean, mean, 0.5 * logVariance)
      : normalKl(posteriorMean(clean), posteriorLogVariance, mean, logVariance);
  return nats / Math.log(2);
}

function cumulativeProducts(betas: ArrayLike<number>): number[] {
  let product = 1;
  return Array.from(betas, (beta) => {
    product *= 1 - beta;
    return product;
  });
}

function normalKl(mean1: number, logVariance1: number, mean2: number, logVariance2: number): number {
  return (
    0.5 *
    (-1 +
      logVariance2 -
      logVariance1 +
      Math.exp(logVariance1 - logVariance2) +
      (mean1 - mean2) ** 2 * Math.exp(-logVariance2))
  );
}

function approximateCdf(x: number): number {
  return 0.5 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

function logLikelihoodOfLevel(x: number, mean: number, logScale: number): number {
  const centred = x - mean;
  const inverse = Math.exp(-logScale);
  const plus = approximateCdf(inverse * (centred + 1 / 255));
  const minus = approximateCdf(inverse * (centred - 1 / 255));
  const logOf = (value: number) => Math.log(Math.max(value, 1e-12));
  if (x < -0.999) return logOf(plus);
  if (x > 0.999) return logOf(1 - minus);
  return logOf(plus - minus);
}
