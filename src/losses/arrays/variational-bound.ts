import { requireArray, requireObject } from '../../arguments.ts';
import { InvalidArgumentError } from '../../errors.ts';

/** Half the distance between two of the 256 levels of an image in [-1, 1]. */
export const HALF_LEVEL = 1 / 255;
/** Beyond it a value is the lowest, or highest, level, whose bin is open. */
export const LAST_LEVEL = 0.999;
/** Below this a variance has no logarithm worth having; diffusers' limit. */
const MIN_VARIANCE = 1e-20;

type Floats = Float32Array | Float64Array;

/** A batch: what the model says, what was added, and when. */
export interface VariationalBoundLossInputs<T extends Floats = Float32Array> {
  /** v, what the model says of the variance: a batch of samples one after another, as are the next three. */
  readonly predicted_variance: T;
  /** The noise the model predicts. */
  readonly predicted_noise: Floats;
  /** The noise that was added. */
  readonly noise: Floats;
  /** x_0, in [-1, 1]. */
  readonly clean: Floats;
  /** The timestep of each sample, from 0. */
  readonly timesteps: ArrayLike<number>;
  /** The variances of the forward process, such as `scheduler.betas`. */
  readonly betas: ArrayLike<number>;
}

/** The bound, and its gradient. */
export interface VariationalBoundLossResult<T extends Floats = Float32Array> {
  /** The mean term of the variational bound, in bits per element; the whole bound is `betas.length` times as much. */
  readonly loss: number;
  /** d loss / d predicted_variance, of its length. The bound does not train the predicted noise. */
  readonly gradient: T;
}

/**
 * The variational bound of a learned variance (Nichol & Dhariwal 2021; `_vb_terms_bpd` of guided-diffusion with
 * LEARNED_RANGE) on plain arrays, with its gradient, for a training loop in any framework. `hybridLoss` is the same in
 * this package's graphs: the hybrid loss is the base loss + 0.001 `betas.length` times this one. Sums are accumulated in
 * float64.
 *
 * @throws {InvalidArgumentError} when sizes do not fit together, or a timestep is out of range.
 * @example
 * const { gradient } = variationalBoundLoss({
 *   predicted_variance, predicted_noise, noise, clean, timesteps: [0, 999], betas: new DDPMScheduler().betas,
 * });
 */
export function variationalBoundLoss<T extends Floats>(
  inputs: VariationalBoundLossInputs<T>,
): VariationalBoundLossResult<T> {
  checkSizes(inputs);
  const { predicted_variance, predicted_noise, noise, clean, timesteps, betas } = inputs;
  const { logVariance, logRange, cleanPrecision } = posteriorTables(betas);
  const scales = cleanErrorScales(betas);
  const count = predicted_variance.length;
  const sampleSize = count / timesteps.length;
  const gradient = predicted_variance.slice() as T;
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const t = timesteps[Math.floor(i / sampleSize)] as number;
    // x_0 less its prediction
    const error = ((predicted_noise[i] as number) - (noise[i] as number)) * (scales[t] as number);
    const range = logRange[t] as number;
    const excess = (((predicted_variance[i] as number) + 1) / 2) * range;
    const term =
      t === 0
        ? levelTerm(clean[i] as number, error, excess + (logVariance[0] as number))
        : divergenceTerm(error, excess, cleanPrecision[t] as number);
    sum += term.value;
    gradient[i] = (term.slope * range) / 2 / (count * Math.LN2);
  }
  return { loss: sum / (count * Math.LN2), gradient };
}

/** What q(x_{t-1} | x_t, x_0) is at each training timestep, in float64. */
interface PosteriorTables {
  /** log of the posterior variance beta-tilde_t. At t = 0, where it is 0, that of t = 1 stands in. */
  readonly logVariance: Float64Array;
  /** log beta_t - log beta-tilde_t: how far a variance learned between the two can go. */
  readonly logRange: Float64Array;
  /** The factor of x_0 in the posterior mean, squared, over the posterior variance. */
  readonly cleanPrecision: Float64Array;
}

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

/** A term in nats and its derivative by the logarithm of the learned variance. */
interface Term {
  readonly value: number;
  readonly slope: number;
}

/** KL of two Gaussians whose logarithms of variance differ by `excess`. */
function divergenceTerm(error: number, excess: number, cleanPrecision: number): Term {
  const overlap = Math.exp(-excess) * (1 + error * error * cleanPrecision);
  return { value: (excess - 1 + overlap) / 2, slope: (1 - overlap) / 2 };
}

/** -log of the probability of the level that `clean` is in. */
function levelTerm(clean: number, error: number, logVariance: number): Term {
  const precision = Math.exp(-logVariance / 2);
  const above = normalCdf(precision * (error + HALF_LEVEL));
  const below = normalCdf(precision * (error - HALF_LEVEL));
  const [high, low] = [clean > LAST_LEVEL ? undefined : above, clean < -LAST_LEVEL ? undefined : below];
  const probability = (high?.value ?? 1) - (low?.value ?? 0);
  if (probability < 1e-12) return { value: -Math.log(1e-12), slope: 0 };
  return {
    value: -Math.log(probability),
    slope: ((high?.slopeTimesX ?? 0) - (low?.slopeTimesX ?? 0)) / (2 * probability),
  };
}

/** guided-diffusion's approximation, and x times its derivative. */
function normalCdf(x: number): { value: number; slopeTimesX: number } {
  const scale = Math.sqrt(2 / Math.PI);
  const wave = Math.tanh(scale * (x + 0.044715 * x ** 3));
  return { value: (1 + wave) / 2, slopeTimesX: ((1 - wave * wave) / 2) * scale * (x + 3 * 0.044715 * x ** 3) };
}

/** sqrt((1 - alphaBar) / alphaBar): an error of the noise as an error of x_0. */
function cleanErrorScales(betas: ArrayLike<number>): Float64Array {
  let alphaBar = 1;
  return Float64Array.from(betas, (beta) => {
    alphaBar *= 1 - beta;
    return Math.sqrt((1 - alphaBar) / alphaBar);
  });
}

function checkSizes(inputs: VariationalBoundLossInputs<Floats>): void {
  requireObject('the argument of variationalBoundLoss', inputs);
  for (const name of ['predicted_variance', 'predicted_noise', 'noise', 'clean', 'timesteps', 'betas'] as const)
    requireArray(name, inputs[name]);
  const { predicted_variance, predicted_noise, noise, clean, timesteps, betas } = inputs;
  const count = predicted_variance.length;
  for (const [name, values] of Object.entries({ predicted_noise, noise, clean }))
    if (values.length !== count)
      throw new InvalidArgumentError(
        `predicted_variance has ${count} elements but ${name} has ${values.length}: they must be alike`,
      );
  if (count === 0 || count % timesteps.length !== 0)
    throw new InvalidArgumentError(
      `predicted_variance has ${count} elements, which ${timesteps.length} timesteps do not divide into samples`,
    );
  const wrong = Array.from(timesteps).find((t) => !Number.isInteger(t) || t < 0 || t >= betas.length);
  if (wrong !== undefined)
    throw new InvalidArgumentError(`timestep ${wrong} is not a whole number in [0, ${betas.length})`);
}
