// What the Iso-Diffusion loss converges to: the DDPM predictor times one number. docs/theory.md derives it.
import { InvalidArgumentError } from '../errors.ts';
import { checkLambda } from './arrays/iso.ts';

/** Beyond it a measured isotropy says that the model has not learned to predict noise. */
const MAX_ISOTROPY = 1.5;
/** Newton's method needs 4 to 8 steps; each squares the error. */
const MAX_NEWTON_STEPS = 60;

/**
 * s, by which the minimiser of the Iso-Diffusion loss exceeds that of the DDPM loss: eps-hat = s E[eps | x_t].
 *
 * Setting the functional derivative of mean|eps - eps-hat|^2 + lambda (S - 1)^2 with S = mean|eps-hat|^2 (eq. 27 of arXiv
 * 2403.16790, per element) to zero gives eps-hat (1 + 2 lambda (S - 1)) = E[eps | x_t]. With S = s^2 m this is
 * 2 lambda m s^3 + (1 - 2 lambda) s - 1 = 0, which has one positive root. It is 1 for lambda = 0 and tends to
 * 1 / sqrt(m) as lambda grows.
 *
 * @param lambda weight of the penalty, finite and >= 0.
 * @param isotropy m = mean|E[eps | x_t]|^2 per element, the isotropy of the DDPM model: above 0, at most 1.5. It is 1 less
 * the least mean squared error.
 * @throws {InvalidArgumentError} when an argument is out of range.
 * @example
 * minimiserScale(0.1, 0.8389); // 1.0246, as the paper's network reaches on the Swiss roll
 */
export function minimiserScale(lambda: number, isotropy: number): number {
  checkLambda(lambda);
  checkIsotropy(isotropy);
  if (lambda === 0) return 1;
  const cubic = 2 * lambda * isotropy;
  const linear = 1 - 2 * lambda;
  // The polynomial is convex for s > 0, and not negative here: Newton's method comes down to the root.
  let scale = Math.max(1, 1 / Math.sqrt(isotropy));
  for (let step = 0; step < MAX_NEWTON_STEPS; step++) {
    const value = (cubic * scale * scale + linear) * scale - 1;
    const next = scale - value / (3 * cubic * scale * scale + linear);
    if (!(next < scale)) break;
    scale = next;
  }
  return scale;
}

/** A trained model's isotropy, and the weight of the penalty that it was trained with. */
export interface TrainedIsotropy {
  /** mean|eps-hat|^2 per element over data, noise and timesteps; above 0, at most 1.5. */
  readonly isotropy: number;
  /** lambda of the training, finite and >= 0; 0 for a DDPM model. */
  readonly lambda: number;
}

/**
 * By what to multiply a trained model's predicted noise, so that it is the minimiser for another lambda. The model is
 * first taken back to the DDPM predictor: eps-hat (1 - 2 lambda_0 (1 - S)) for one that was trained with lambda_0 and has
 * the isotropy S. The result is exactly 1 for the lambda that the model was trained with.
 *
 * @param lambda the lambda that is wanted, finite and >= 0.
 * @throws {InvalidArgumentError} when an argument is out of range, or no model trained to its minimum with that lambda
 * has this isotropy.
 * @example
 * noiseScaleForLambda(0.1, { isotropy: 0.8389, lambda: 0 }); // 1.0246
 * noiseScaleForLambda(0, { isotropy: 0.8799, lambda: 0.1 }); // 0.976: takes the penalty back
 */
export function noiseScaleForLambda(lambda: number, trained: TrainedIsotropy): number {
  checkLambda(lambda);
  checkLambda(trained.lambda);
  checkIsotropy(trained.isotropy);
  if (lambda === trained.lambda) return 1;
  const back = 1 - 2 * trained.lambda * (1 - trained.isotropy);
  const ddpm = trained.isotropy * back * back;
  if (!(back > 0 && ddpm > 0 && ddpm <= MAX_ISOTROPY))
    throw new InvalidArgumentError(
      `a model trained with lambda ${trained.lambda} to its minimum cannot have the isotropy ${trained.isotropy}: measure it again over the training data`,
    );
  return minimiserScale(lambda, ddpm) * back;
}

function checkIsotropy(isotropy: number): void {
  if (typeof isotropy === 'number' && isotropy > 0 && isotropy <= MAX_ISOTROPY) return;
  throw new InvalidArgumentError(
    `isotropy, the mean squared predicted noise per element, is ${String(isotropy)}, but must be above 0 and at most ${MAX_ISOTROPY}: a trained model has 0.5 to 1`,
  );
}
