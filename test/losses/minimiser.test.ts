import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { isoDiffusionLoss, minimiserScale, noiseScaleForLambda } from '../../src/losses/index.ts';
import { DDPMScheduler } from '../../src/schedulers/index.ts';

describe('minimiserScale', () => {
  // [lambda, m, root], by bisection with 60 digits in Python's decimal; each root is rounded to a double once.
  const roots: [number, number, number][] = JSON.parse(
    readFileSync(new URL('../fixtures/losses/minimiser-roots.json', import.meta.url), 'utf8'),
  );

  it('is within 1e-12 of a reference of 60 digits, for m from 1e-9 to 1.5 and lambda from 0 to 100', () => {
    for (const [lambda, isotropy, root] of roots)
      expect(Math.abs(minimiserScale(lambda, isotropy) / root - 1), `${lambda}, ${isotropy}`).toBeLessThan(1e-12);
  });

  it('goes from 1 to 1 / sqrt(m) as lambda grows', () => {
    const scales = [0, 0.01, 0.1, 1, 10, 1e6].map((lambda) => minimiserScale(lambda, 0.8));
    expect(scales).toEqual([...scales].sort((a, b) => a - b));
    expect(scales[0]).toBe(1);
    expect(scales[5]).toBeCloseTo(1 / Math.sqrt(0.8), 6);
  });

  it('refuses what is out of range', () => {
    for (const lambda of [-0.1, Number.NaN, Infinity])
      expect(() => minimiserScale(lambda, 0.8)).toThrow(InvalidArgumentError);
    for (const isotropy of [0, -1, 1.51, Number.NaN, Infinity])
      expect(() => minimiserScale(0.1, isotropy)).toThrow(InvalidArgumentError);
  });
});

describe('noiseScaleForLambda', () => {
  it('is exactly 1 for the lambda of the training, and 1 / s for none', () => {
    const isotropy = minimiserScale(0.3, 0.85) ** 2 * 0.85;
    expect(noiseScaleForLambda(0.3, { isotropy, lambda: 0.3 })).toBe(1);
    expect(noiseScaleForLambda(0, { isotropy, lambda: 0.3 })).toBeCloseTo(1 / minimiserScale(0.3, 0.85), 12);
  });

  it('takes a trained model to another lambda as from the DDPM model', () => {
    const s = minimiserScale(0.1, 0.84);
    const there = noiseScaleForLambda(0.7, { isotropy: s * s * 0.84, lambda: 0.1 });
    expect(s * there).toBeCloseTo(minimiserScale(0.7, 0.84), 12);
  });

  it('refuses an isotropy that no trained model has', () => {
    expect(() => noiseScaleForLambda(0.1, { isotropy: 0.3, lambda: 1 })).toThrow(/cannot have the isotropy 0.3/);
    expect(() => noiseScaleForLambda(0.1, { isotropy: 2, lambda: 0 })).toThrow(InvalidArgumentError);
    expect(() => noiseScaleForLambda(0.1, { isotropy: 0.8, lambda: -1 })).toThrow(InvalidArgumentError);
  });
});

describe('a linear model of Gaussian data, trained with the Iso-Diffusion loss', () => {
  // x_0 ~ N(0, diag(variances)): E[eps | x_t] is sqrt(1 - abar) x_t / (abar variance + 1 - abar), element by element.
  const variances = [0.5, 0.02];
  const { alphasCumprod } = new DDPMScheduler({ num_train_timesteps: 40 });
  const elements = [...alphasCumprod].flatMap((alpha) =>
    variances.map((variance) => ({ alpha, variance, total: alpha * variance + 1 - alpha })),
  );
  const predictor = elements.map(({ alpha, total }) => Math.sqrt(1 - alpha) / total);
  // All signs of (x_0, eps), of their standard deviations: their second moments, all that the loss of a linear model
  // needs, are exactly those of the Gaussians.
  const signs = [
    [1, 1],
    [1, -1],
  ];
  const noise = Float64Array.from(elements.flatMap(() => signs.map(([, sign = 1]) => sign)));
  const noised = Float64Array.from(
    elements.flatMap(({ alpha, variance }) =>
      signs.map(([data = 1, sign = 1]) => data * Math.sqrt(alpha * variance) + sign * Math.sqrt(1 - alpha)),
    ),
  );

  function train(lambda: number): Float64Array {
    const weights = new Float64Array(elements.length);
    for (let step = 0; step < 20_000; step++) {
      const predicted_noise = noised.map((x, i) => x * (weights[i >> 1] as number));
      const { gradient } = isoDiffusionLoss({ predicted_noise, noise, lambda });
      const slopes = weights.map((_, w) =>
        signs.reduce((sum, _, k) => sum + (gradient[2 * w + k] as number) * (noised[2 * w + k] as number), 0),
      );
      if (Math.max(...slopes.map(Math.abs)) < 1e-9) break;
      // The curvature of the squared error is 2 total / elements; the penalty adds to it as lambda grows.
      slopes.forEach((slope, w) => {
        weights[w] = (weights[w] as number) - (slope * elements.length) / (4 * (1 + 4 * lambda));
      });
    }
    return weights;
  }

  it.each([0, 0.05, 0.1, 0.3, 1])('is s E[eps | x_t] for lambda = %f', (lambda) => {
    const m = elements.reduce((sum, { total }, i) => sum + (predictor[i] as number) ** 2 * total, 0) / elements.length;
    const s = minimiserScale(lambda, m);
    const weights = train(lambda);
    predictor.forEach((weight, i) => {
      expect(Math.abs((weights[i] as number) / (s * weight) - 1)).toBeLessThan(1e-3);
    });
    // m is 1 less the least mean squared error.
    const least = elements.reduce((sum, { alpha, variance, total }) => sum + (alpha * variance) / total, 0);
    expect(m).toBeCloseTo(1 - least / elements.length, 12);
  });
});
