import { createRequire } from 'node:module';
import type * as Tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { isoDiffusionLoss as plainLoss } from '../../src/losses/arrays/iso.ts';
import { isoDiffusionLayersLoss, isoDiffusionLoss } from '../../src/losses/arrays/tfjs.ts';
import { RandomStream } from '../../src/random/random-stream.ts';

// The ES modules of tfjs do not resolve in Node.
const tf: typeof Tf = createRequire(import.meta.url)('@tensorflow/tfjs');
const random = (seed: number) => new RandomStream(seed).fillNormal(new Float32Array(24));

describe('isoDiffusionLoss(tf, ...)', () => {
  const predicted = random(1).map((x) => 1.3 * x);
  const noise = random(2);
  const shape: [number, number, number] = [4, 2, 3];

  it.each([0, 0.1, 2])('equals the plain reference in loss and gradient, lambda %f', async (lambda) => {
    const expected = plainLoss({ predicted_noise: predicted, noise, lambda });
    const { value, grad } = tf.valueAndGrad((x: Tf.Tensor) =>
      isoDiffusionLoss(tf, x, tf.tensor(noise, shape), { lambda }),
    )(tf.tensor(predicted, shape));
    // Both compute in float32 from the same numbers: some roundings of sums of 24.
    expect((await value.data())[0]).toBeCloseTo(expected.loss, 5);
    expect(grad.shape).toEqual(shape);
    (await grad.data()).forEach((value, i) => {
      expect(value).toBeCloseTo(expected.gradient[i] as number, 6);
    });
  });

  it('leaves no tensors behind', () => {
    const [x, y] = [tf.tensor(predicted, shape), tf.tensor(noise, shape)];
    const before = tf.memory().numTensors;
    isoDiffusionLoss(tf, x, y, { lambda: 0.1 }).dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  it('refuses a lambda that is not finite or negative', () => {
    const x = tf.zeros([1]);
    for (const lambda of [-1, Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => isoDiffusionLoss(tf, x, x, { lambda })).toThrow(InvalidArgumentError);
    expect(() => isoDiffusionLayersLoss(tf, { lambda: -1 })).toThrow(InvalidArgumentError);
  });

  it('refuses shapes that only broadcast', () => {
    const loss = () => isoDiffusionLoss(tf, tf.zeros([4, 2]), tf.zeros([4, 1]), { lambda: 0.1 });
    expect(loss).toThrow(InvalidArgumentError);
    expect(loss).toThrow(/\[4, 2\], but noise is \[4, 1\]/);
  });

  it('trains a LayersModel', async () => {
    const model = tf.sequential({ layers: [tf.layers.dense({ inputShape: [2], units: 2, useBias: false })] });
    model.compile({ optimizer: tf.train.sgd(0.5), loss: isoDiffusionLayersLoss(tf, { lambda: 0.1 }) });
    const noisy = tf.tensor2d(new RandomStream(3).fillNormal(new Float32Array(128)), [64, 2]);
    const history = await model.fit(noisy, noisy, { epochs: 60, batchSize: 64, verbose: 0 });
    const losses = history.history.loss as number[];
    // The noise is the input itself: the identity is learned. What remains is the penalty on 128 numbers' own spread.
    expect(losses.at(-1)).toBeLessThan(0.02);
    expect(losses.at(-1)).toBeLessThan((losses[0] ?? 0) / 5);
  });
});
