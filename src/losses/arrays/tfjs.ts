/**
 * `iso-diffusion/tfjs`: the Iso-Diffusion loss on tensors of TensorFlow.js, for models and training loops of your own.
 *
 * @packageDocumentation
 */

import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import { requireObject } from '../../arguments.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { checkLambda } from './iso.ts';

/** What the loss needs of tfjs: the module of `@tensorflow/tfjs`, `tfjs-node` or `tfjs-node-gpu` has it. */
export interface TfModule {
  /** Mean over all elements, a scalar. */
  mean(x: Tensor): Tensor;
  /** Elementwise square. */
  square(x: Tensor): Tensor;
  /** a - b, elementwise. */
  sub(a: Tensor, b: Tensor | number): Tensor;
  /** a + b, elementwise. */
  add(a: Tensor, b: Tensor): Tensor;
  /** a b, elementwise. */
  mul(a: Tensor, b: Tensor | number): Tensor;
  /** Runs `fn` and frees what it made beside its result. */
  tidy<T extends Tensor>(fn: () => T): T;
}

/** Options of the loss. */
export interface TfjsIsoLossOptions {
  /** Weight of the isotropy penalty, finite and >= 0. */
  readonly lambda: number;
}

/**
 * The Iso-Diffusion loss (paper, eq. 27, per element) for a model of tfjs, on whatever backend `tf` has:
 * mean((noise - predicted)^2) + lambda (mean(predicted^2) - 1)^2, the second mean over the whole batch before the square.
 * It is made of differentiable tfjs ops, so `tf.grads` and `optimizer.minimize` go through it.
 *
 * @param tf the tfjs module you train with.
 * @param predicted_noise the model's output, [batch, ...].
 * @param noise the noise that was added, of the same shape.
 * @returns a scalar; with `lambda` 0 the mean squared error and nothing else.
 * @throws {InvalidArgumentError} when lambda is not finite or negative, or the shapes differ: broadcasting would turn a
 * mistake into a wrong loss.
 * @example
 * optimizer.minimize(() => isoDiffusionLoss(tf, model.apply(noisy), noise, { lambda: 0.1 }));
 */
export function isoDiffusionLoss(
  tf: TfModule,
  predicted_noise: Tensor,
  noise: Tensor,
  options: TfjsIsoLossOptions,
): Scalar {
  requireObject('the options of isoDiffusionLoss', options);
  const { lambda } = options;
  checkLambda(lambda);
  if (String(predicted_noise.shape) !== String(noise.shape))
    throw new InvalidArgumentError(
      `predicted_noise is [${predicted_noise.shape.join(', ')}], but noise is [${noise.shape.join(', ')}]: they must be alike`,
    );
  return tf.tidy(() => {
    const error = tf.mean(tf.square(tf.sub(predicted_noise, noise)));
    if (lambda === 0) return error as Scalar;
    const isotropy = tf.mean(tf.square(predicted_noise));
    return tf.add(error, tf.mul(tf.square(tf.sub(isotropy, 1)), lambda)) as Scalar;
  });
}

/**
 * The loss in the form `LayersModel.compile({ loss })` takes. Keras-style training averages a loss over batches; the
 * expectation of the penalty runs over each batch.
 *
 * @throws {InvalidArgumentError} when lambda is not finite or negative.
 * @example
 * model.compile({ optimizer: 'adam', loss: isoDiffusionLayersLoss(tf, { lambda: 0.1 }) });
 */
export function isoDiffusionLayersLoss(
  tf: TfModule,
  options: TfjsIsoLossOptions,
): (noise: Tensor, predictedNoise: Tensor) => Scalar {
  requireObject('the options of isoDiffusionLayersLoss', options);
  const { lambda } = options;
  checkLambda(lambda);
  return (noise, predictedNoise) => isoDiffusionLoss(tf, predictedNoise, noise, { lambda });
}
