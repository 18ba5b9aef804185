import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { isoDiffusionLoss } from '../../src/losses/index.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { relativeError } from '../models/run-graph.ts';
import { centralDifferences, plainIsotropy, plainMse } from './plain-losses.ts';

interface UNetCase {
  output: number[];
  noise: number[];
  loss_mse: number;
  loss_iso: number;
}
// From test/fixtures/unet: outputs of a torch U-Net, its noise, and torch's losses at lambda 0.1.
const cases: Record<string, UNetCase> = JSON.parse(
  readFileSync(new URL('../fixtures/losses/unet-cases.json', import.meta.url), 'utf8'),
);

describe('isoDiffusionLoss', () => {
  it.each(Object.entries(cases))('equals torch on %s', (_, { output, noise, loss_mse, loss_iso }) => {
    const result = isoDiffusionLoss({
      predicted_noise: Float32Array.from(output),
      noise: Float32Array.from(noise),
      lambda: 0.1,
    });
    // torch accumulated in float32: a few 2^-24 of rounding.
    expect(Math.abs(result.base / loss_mse - 1)).toBeLessThan(1e-6);
    expect(Math.abs(result.loss / loss_iso - 1)).toBeLessThan(1e-6);
  });

  it('computes the docstring example', () => {
    const result = isoDiffusionLoss({
      predicted_noise: new Float32Array([0.5, -0.5]),
      noise: new Float32Array([1, -1]),
      lambda: 0.1,
    });
    expect(result).toMatchObject({ loss: 0.30625, base: 0.25, isotropy: 0.25, isotropy_penalty: 0.5625 });
    // 2/2 (0.5 - 1) + 0.1 * 2 (0.25 - 1) * 2/2 * 0.5 = -0.575
    expect(result.gradient).toEqual(new Float32Array([-0.575, 0.575]));
  });

  it.each([0, 0.1, 3])('has the gradient of central differences at lambda %d', (lambda) => {
    const stream = new RandomStream(4);
    const noise = stream.fillNormal(new Float64Array(24));
    const predicted_noise = stream.fillNormal(new Float64Array(24)).map((x) => 0.7 * x);
    const { gradient } = isoDiffusionLoss({ predicted_noise, noise, lambda });
    const expected = centralDifferences(
      (x) => plainMse(x, noise) + lambda * (plainIsotropy(x) - 1) ** 2,
      predicted_noise,
    );
    // Differences at 1e-6 are good to about 1e-9 of a loss near 1.
    expect(relativeError(gradient, expected)).toBeLessThan(1e-7);
  });

  it('squares the mean of the batch, not a mean of squares of samples', () => {
    // Two samples of isotropy 0.5 and 1.5: the batch is isotropic on average, each sample is not.
    const predicted_noise = new Float64Array([Math.sqrt(0.5), -Math.sqrt(0.5), Math.sqrt(1.5), Math.sqrt(1.5)]);
    const { isotropy_penalty } = isoDiffusionLoss({ predicted_noise, noise: new Float64Array(4), lambda: 1 });
    expect(isotropy_penalty).toBeLessThan(1e-30);
  });

  it('is the mean squared error bit for bit at lambda 0, for any finite input', () => {
    const value = fc.float({ noNaN: true, noDefaultInfinity: true });
    fc.assert(
      fc.property(fc.array(fc.tuple(value, value), { minLength: 1, maxLength: 50 }), (pairs) => {
        const predicted_noise = Float32Array.from(pairs, ([p]) => p);
        const noise = Float32Array.from(pairs, ([, e]) => e);
        const { loss, base, gradient } = isoDiffusionLoss({ predicted_noise, noise, lambda: 0 });
        expect(loss).toBe(base);
        // The gradient 2 (p - e) / N alone: nothing of the penalty is left in it.
        gradient.forEach((slope, i) => {
          const error = (predicted_noise[i] as number) - (noise[i] as number);
          expect(slope + 0).toBe(Math.fround((2 / pairs.length) * error) + 0);
        });
      }),
    );
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, -0.1])('refuses lambda %d by value', (lambda) => {
    const inputs = { predicted_noise: new Float32Array(2), noise: new Float32Array(2), lambda };
    expect(() => isoDiffusionLoss(inputs)).toThrow(InvalidArgumentError);
    expect(() => isoDiffusionLoss(inputs)).toThrow(String(lambda));
  });

  it('refuses empty, unequal and non-finite arrays', () => {
    const run = (predicted: number[], noise: number[]) => () =>
      isoDiffusionLoss({
        predicted_noise: Float32Array.from(predicted),
        noise: Float32Array.from(noise),
        lambda: 0.1,
      });
    expect(run([], [])).toThrow(InvalidArgumentError);
    expect(run([1, 2], [1])).toThrow('predicted_noise has 2 elements but noise has 1');
    expect(run([1, Number.NaN], [1, 2])).toThrow('predicted_noise[1] is NaN');
    expect(run([1, 2], [Number.NEGATIVE_INFINITY, 2])).toThrow('noise[0] is -Infinity');
  });
});
