import type { OptimizerSettings, UpdateScalars } from '../../graph/optimizer.ts';
import type { AdamSettings } from '../../graph/optimizers/adam.ts';
import type { LionSettings } from '../../graph/optimizers/lion.ts';
import type { SgdSettings } from '../../graph/optimizers/sgd.ts';
import type { Tfjs, TfTensor } from './tf-module.ts';

/** Parameters and the moments that the optimizer keeps, as flat vectors. */
interface OptimizedVectors {
  readonly parameters: TfTensor;
  readonly moments: readonly TfTensor[];
}

/** `optimizerStep` of src/graph/optimizer.ts with the kernels of tfjs, for `tf.tidy`. */
export function tfjsOptimizerStep(
  tf: Tfjs,
  vectors: OptimizedVectors,
  gradient: TfTensor,
  scalars: UpdateScalars,
  settings: OptimizerSettings,
): OptimizedVectors {
  const { gradientScale } = scalars;
  const scaled = gradientScale === 1 ? gradient : tf.mul(gradient, gradientScale);
  switch (settings.name) {
    case 'adam':
      return adam(tf, vectors, scaled, scalars, settings);
    case 'sgd':
      return sgd(tf, vectors, scaled, scalars, settings);
    case 'lion':
      return lion(tf, vectors, scaled, scalars, settings);
  }
}

function adam(
  tf: Tfjs,
  { parameters, moments }: OptimizedVectors,
  gradient: TfTensor,
  { stepSize, epsilon, decayFactor }: UpdateScalars,
  { beta1, beta2 }: AdamSettings,
): OptimizedVectors {
  const [first = gradient, second = gradient] = moments;
  const firstMoment = tf.add(tf.mul(first, beta1), gradient);
  const secondMoment = tf.add(tf.mul(second, beta2), tf.square(gradient));
  const direction = tf.div(firstMoment, tf.add(tf.sqrt(secondMoment), epsilon));
  const decayed = decayFactor === 1 ? parameters : tf.mul(parameters, decayFactor);
  return { parameters: tf.sub(decayed, tf.mul(direction, stepSize)), moments: [firstMoment, secondMoment] };
}

function sgd(
  tf: Tfjs,
  { parameters, moments }: OptimizedVectors,
  gradient: TfTensor,
  { stepSize }: UpdateScalars,
  { momentum, nesterov, weight_decay }: SgdSettings,
): OptimizedVectors {
  const whole = weight_decay === 0 ? gradient : tf.add(gradient, tf.mul(parameters, weight_decay));
  const [moment] = moments;
  const next = moment && tf.add(tf.mul(moment, momentum), whole);
  const direction = next && nesterov ? tf.add(whole, tf.mul(next, momentum)) : (next ?? whole);
  return { parameters: tf.sub(parameters, tf.mul(direction, stepSize)), moments: next ? [next] : [] };
}

function lion(
  tf: Tfjs,
  { parameters, moments }: OptimizedVectors,
  gradient: TfTensor,
  { stepSize, decayFactor }: UpdateScalars,
  { beta1, beta2 }: LionSettings,
): OptimizedVectors {
  const [moment = gradient] = moments;
  const mixed = (beta: number) => tf.add(tf.mul(moment, beta), tf.mul(gradient, 1 - beta));
  const decayed = decayFactor === 1 ? parameters : tf.mul(parameters, decayFactor);
  const direction = tf.sign(mixed(beta1));
  return { parameters: tf.sub(decayed, tf.mul(direction, stepSize)), moments: [mixed(beta2)] };
}
