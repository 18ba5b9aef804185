/** What q(x_{t-1} | x_t, x_0) is at each training timestep, in float64. */
export interface PosteriorTables {
  /** log of the posterior variance beta-tilde_t. At t = 0, where it is 0, that of t = 1 stands in. */
  readonly logVariance: Float64Array;
  /** log beta_t - log beta-tilde_t: how far a variance learned between the two can go. */
  readonly logRange: Float64Array;
  /** The factor of x_0 in the posterior mean, squared, over the posterior variance. */
  readonly cleanPrecision: Float64Array;
}

/** Below this a variance has no logarithm worth having; diffusers' limit. */
const MIN_VARIANCE = 1e-20;

/** Eq. 6 and 7 of Ho et al. 2020, as guided-diffusion's GaussianDiffusion tabulates them. */
export function posteriorTables(betas: ArrayLike<number>): PosteriorTables {
  const count = betas.length;
  const logVariance = new Float64Array(count);
  const logRange = new Float64Array(count);
  const cleanPrecision = new Float64Array(count);
  let alphaBarBefore = 1;
  for (let t = 0; t < count; t++) {
    const beta = betas[t] as number;
    const alphaBar = alphaBarBefore * (1 - beta);
    const variance = (beta * (1 - alphaBarBefore)) / (1 - alphaBar);
    const cleanFactor = (beta * Math.sqrt(alphaBarBefore)) / (1 - alphaBar);
    logVariance[t] = logOf(t === 0 ? firstVariance(betas) : variance);
    logRange[t] = logOf(beta) - (logVariance[t] as number);
    cleanPrecision[t] = cleanFactor ** 2 / Math.exp(logVariance[t] as number);
    alphaBarBefore = alphaBar;
  }
  return { logVariance, logRange, cleanPrecision };
}

function firstVariance(betas: ArrayLike<number>): number {
  const [first = 0, second] = [betas[0], betas[1]];
  if (second === undefined) return first;
  return (second * first) / (1 - (1 - first) * (1 - second));
}

function logOf(variance: number): number {
  return Math.log(Math.max(variance, MIN_VARIANCE));
}
