// A loss for a training loop of one's own in tfjs.
import * as tf from '@tensorflow/tfjs-core';
import { isoDiffusionLoss as onArrays } from 'iso-diffusion/losses';
import { isoDiffusionLoss } from 'iso-diffusion/tfjs';

export function bothLosses(predicted_noise: number[], noise: number[]): [number, number] {
  const ofTensors = isoDiffusionLoss(tf, tf.tensor1d(predicted_noise), tf.tensor1d(noise), { lambda: 0.1 });
  const ofArrays = onArrays({
    predicted_noise: Float32Array.from(predicted_noise),
    noise: Float32Array.from(noise),
    lambda: 0.1,
  });
  return [ofTensors.dataSync()[0] ?? Number.NaN, ofArrays.loss];
}
