import { requireObject } from '../arguments.ts';
import { InvalidArgumentError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { add, div, minimum, mul, pow, square, sub } from '../graph/ops/elementwise.ts';
import { reduceMean } from '../graph/ops/reduce.ts';
import { scalarLike } from '../graph/registry.ts';
import { isotropyOf, regressionTarget } from './isotropy.ts';
import { type DiffusionLoss, defineLoss, type LossConfig, type LossInputs } from './loss.ts';

/*
 * Mean squared errors with a weight for each timestep, a function of the signal-to-noise ratio SNR = abar / (1 - abar).
 * Papers state the weight w of the squared error of the predicted noise. The error of another prediction is a multiple
 * of that one's:
 *
 *     (epsilon-hat - epsilon)^2 = abar (v-hat - v)^2 = SNR (x_0-hat - x_0)^2
 *
 * so v gets the weight w abar, and x_0 the weight w SNR.
 */

/** Options of `minSnrLoss`. */
export interface MinSnrLossOptions {
  /** The SNR gamma above which the weight falls, above 0 and finite; default 5, as in the paper. */
  readonly snr_gamma?: number | undefined;
}

/**
 * Min-SNR-gamma weighting (Hang et al. 2023, arXiv 2303.09556, eq. 7 and section 3.4; `compute_snr` and `--snr_gamma` of
 * diffusers' training scripts): each sample's squared error times min(SNR, gamma) / SNR for the noise,
 * min(SNR, gamma) / (SNR + 1) for the velocity, and min(SNR, gamma) for x_0. Early timesteps, which are nearly clean, count
 * less. Terms as `simpleLoss`.
 *
 * @throws {InvalidArgumentError} when `snr_gamma` is not a finite number above 0.
 * @example
 * const loss = isoLoss({ lambda: 0.1, base: minSnrLoss({ snr_gamma: 5 }) });
 */
export function minSnrLoss(options: MinSnrLossOptions = {}): DiffusionLoss {
  requireObject('the argument of minSnrLoss', options);
  const { snr_gamma = 5 } = options;
  if (!(Number.isFinite(snr_gamma) && snr_gamma > 0))
    throw new InvalidArgumentError(`snr_gamma must be a finite number > 0, but is ${String(snr_gamma)} (5 is usual)`);
  return weightedLoss({ name: 'min-snr', snr_gamma }, ({ signal, noise }) => {
    // min(1, gamma / SNR) also holds where there is no signal left.
    const ratio = div(mul(noise, scalarLike(noise, snr_gamma)), signal);
    return minimum(ratio, scalarLike(ratio, 1));
  });
}

/** Options of `p2Loss`. */
export interface P2LossOptions {
  /** The exponent gamma, at least 0 and finite; default 1. The paper uses 0.5 and 1. */
  readonly p2_gamma?: number | undefined;
  /** k, which bounds the weight of the latest timesteps, above 0 and finite; default 1, as in the paper. */
  readonly p2_k?: number | undefined;
}

/**
 * P2 weighting (Choi et al. 2022, arXiv 2204.00227, eq. 8): each sample's squared error of the noise times
 * 1 / (k + SNR)^gamma. Early timesteps, which only clean up, count less. Velocity and x_0 get the weight that is the same
 * on the noise. Terms as `simpleLoss`.
 *
 * @throws {InvalidArgumentError} when an option is out of its range.
 * @example
 * const { loss } = p2Loss({ p2_gamma: 0.5 })(inputs);
 */
export function p2Loss(options: P2LossOptions = {}): DiffusionLoss {
  requireObject('the argument of p2Loss', options);
  const { p2_gamma = 1, p2_k = 1 } = options;
  if (!(Number.isFinite(p2_gamma) && p2_gamma >= 0))
    throw new InvalidArgumentError(`p2_gamma must be a finite number >= 0, but is ${String(p2_gamma)}`);
  if (!(Number.isFinite(p2_k) && p2_k > 0))
    throw new InvalidArgumentError(`p2_k must be a finite number > 0, but is ${String(p2_k)}`);
  return weightedLoss({ name: 'p2', p2_gamma, p2_k }, ({ signal, noise }) => {
    const base = add(div(signal, noise), scalarLike(signal, p2_k));
    return pow(base, scalarLike(base, -p2_gamma));
  });
}

/**
 * The mean squared error of the predicted noise, whatever the model predicts: x_0 gets the weight SNR, as in diffusers'
 * `train_unconditional.py` with `--prediction_type sample` (Salimans & Ho 2022, arXiv 2202.00512, section 4), and the
 * velocity abar. For a model that predicts the noise it is `simpleLoss`. Terms as `simpleLoss`.
 *
 * @example
 * const { loss } = snrLoss()(inputs);
 */
export function snrLoss(): DiffusionLoss {
  return weightedLoss({ name: 'snr' }, ({ signal }) => scalarLike(signal, 1));
}

/** abar and 1 - abar at each sample's timestep, [batch, 1, ...]. */
interface Shares {
  readonly signal: Value;
  readonly noise: Value;
}

/** @param noiseWeight the weight of the squared error of the predicted noise. */
function weightedLoss(config: LossConfig, noiseWeight: (shares: Shares) => Value): DiffusionLoss {
  return defineLoss(config, (inputs) => {
    const error = square(sub(inputs.modelOutput, regressionTarget(inputs)));
    const loss = reduceMean(mul(error, outputWeight(inputs, noiseWeight)));
    return { loss, terms: { base_loss: loss, ...isotropyOf(inputs) } };
  });
}

/** The weight of the squared error of what the model predicts. */
function outputWeight({ alphaCumprod: signal, predictionType }: LossInputs, noiseWeight: (shares: Shares) => Value) {
  const noise = sub(scalarLike(signal, 1), signal);
  const weight = noiseWeight({ signal, noise });
  switch (predictionType) {
    case 'epsilon':
      return weight;
    case 'v_prediction':
      return mul(weight, signal);
    case 'sample':
      return mul(weight, div(signal, noise));
  }
}
