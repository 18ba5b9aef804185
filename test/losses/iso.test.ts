import { describe, expect, it } from 'vitest';
import { ConfigError, GraphError, InvalidArgumentError } from '../../src/errors.ts';
import { Graph } from '../../src/graph/graph.ts';
import { abs, reduceMax, reduceMean, sub } from '../../src/graph/ops/index.ts';
import {
  defineLoss,
  isoDiffusionLoss,
  isoLoss,
  losses,
  lossFromConfig,
  regressionTarget,
  simpleLoss,
} from '../../src/losses/index.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { relativeError } from '../models/run-graph.ts';
import {
  centralDifferences,
  mean,
  type PlainBatch,
  plainIsotropy,
  plainMse,
  plainPredictedEpsilon,
  plainVelocity,
} from './plain-losses.ts';
import { runLoss } from './run-loss.ts';

const stream = new RandomStream(8);
const normals = (length: number) => stream.fillNormal(new Float64Array(length));
const batch: PlainBatch = {
  n: 3,
  clean: normals(12),
  epsilon: normals(12),
  alphaCumprod: [0.999, 0.6, 0.2, 0.01],
};
const output = normals(12).map((x) => 0.8 * x);
const targets = {
  epsilon: batch.epsilon,
  v_prediction: plainVelocity(batch),
  sample: batch.clean,
} as const;
/** As a user writes one: with a term of its own, and without those of the isotropy. */
const l1Loss = () =>
  defineLoss({ name: 'own-l1' }, (inputs) => {
    const error = abs(sub(inputs.modelOutput, regressionTarget(inputs)));
    return {
      loss: reduceMean(error),
      terms: { base_loss: reduceMean(error), 'own/spread': reduceMax(error) },
    };
  });
const predictionTypes = ['epsilon', 'v_prediction', 'sample'] as const;

describe('isoLoss', () => {
  it.each(predictionTypes)('equals eq. 27 in float64, with its gradient: %s', async (predictionType) => {
    const lambda = 0.3;
    const isotropyAt = (x: ArrayLike<number>) => plainIsotropy(plainPredictedEpsilon(batch, predictionType, x));
    const lossAt = (x: ArrayLike<number>) => plainMse(x, targets[predictionType]) + lambda * (isotropyAt(x) - 1) ** 2;

    const terms = await runLoss(isoLoss({ lambda }), batch, output, predictionType);

    // lambda and 1 are exact or rounded to float64 in the graph as here: only the order of sums differs.
    expect(terms.base).toBeCloseTo(plainMse(output, targets[predictionType]), 12);
    expect(relativeError([terms.isotropy], [isotropyAt(output)])).toBeLessThan(1e-12);
    expect(relativeError([terms.isotropyPenalty], [(isotropyAt(output) - 1) ** 2])).toBeLessThan(1e-11);
    expect(relativeError([terms.loss], [lossAt(output)])).toBeLessThan(1e-11);
    // x0-prediction at alphaCumprod 0.999 divides by sqrt(0.001), which costs the differences some digits.
    expect(relativeError(terms.gradient, centralDifferences(lossAt, output))).toBeLessThan(1e-6);
  });

  it('equals the plain-array reference in float32', async () => {
    const lambda = 0.1;
    const terms = await runLoss(isoLoss({ lambda }), batch, output, 'epsilon', 'float32');
    const reference = isoDiffusionLoss({
      predicted_noise: Float32Array.from(output),
      noise: Float32Array.from(batch.epsilon),
      lambda,
    });
    // One or two float32 roundings an operation.
    expect(relativeError([terms.loss], [reference.loss])).toBeLessThan(1e-6);
    expect(relativeError([terms.isotropy], [reference.isotropy])).toBeLessThan(1e-6);
    expect(relativeError(terms.gradient, reference.gradient)).toBeLessThan(1e-5);
  });

  it.each(predictionTypes)('equals the base loss bit for bit at lambda 0: %s', async (predictionType) => {
    const iso = await runLoss(isoLoss({ lambda: 0 }), batch, output, predictionType, 'float32');
    const simple = await runLoss(simpleLoss(), batch, output, predictionType, 'float32');
    for (const term of ['loss', 'base', 'isotropy', 'isotropyPenalty', 'gradient'] as const)
      expect(iso[term]).toEqual(simple[term]);
    expect(iso.loss).toBe(iso.base);
    expect(iso.weighted).toBe(0);
    expect(iso.isotropy).toBeGreaterThan(0);
  });

  it('leaves the penalty out of the graph at lambda 0, also where it overflows', async () => {
    // Outputs of 1e15: the error is 1e30, the penalty 1e60 beyond float32, and 0 times infinity would be NaN.
    const huge = output.map((x) => 1e15 * Math.sign(x));
    const iso = await runLoss(isoLoss({ lambda: 0 }), batch, huge, 'epsilon', 'float32');
    const simple = await runLoss(simpleLoss(), batch, huge, 'epsilon', 'float32');
    expect(iso.isotropyPenalty).toBe(Number.POSITIVE_INFINITY);
    expect(iso.loss).toBe(simple.loss);
    expect(iso.loss).toBeLessThan(1e31);
    expect(iso.gradient).toEqual(simple.gradient);
  });

  it('squares the mean of the batch, not a mean of squares of samples', async () => {
    const half = Math.sqrt(0.5);
    const oneAndHalf = Math.sqrt(1.5);
    const samples = { n: 2, clean: normals(4), epsilon: normals(4), alphaCumprod: [0.5, 0.5] };
    const terms = await runLoss(isoLoss({ lambda: 1 }), samples, [half, half, oneAndHalf, -oneAndHalf]);
    expect(terms.isotropyPenalty).toBeLessThan(1e-30);
  });

  it('wraps any base loss', async () => {
    const terms = await runLoss(isoLoss({ lambda: 0.2, base: l1Loss() }), batch, output);
    const expected = mean(Array.from(output, (x, i) => Math.abs(x - Number(batch.epsilon[i]))));
    expect(relativeError([terms.base], [expected])).toBeLessThan(1e-12);
    const penalty = (plainIsotropy(output) - 1) ** 2;
    expect(relativeError([terms.loss], [expected + 0.2 * penalty])).toBeLessThan(1e-12);
    expect(relativeError([terms.weighted], [0.2 * penalty])).toBeLessThan(1e-12);
    expect(terms.names).toEqual([
      'base_loss',
      'own/spread',
      'isotropy',
      'isotropy_penalty',
      'weighted_isotropy_penalty',
    ]);
  });

  it("takes the base's own penalty where it reports one", async () => {
    const base = defineLoss({ name: 'own' }, (inputs) => {
      const loss = reduceMean(abs(inputs.modelOutput));
      return { loss, terms: { isotropy_penalty: loss } };
    });
    const { loss, base: own, weighted } = await runLoss(isoLoss({ lambda: 0.5, base }), batch, output);
    expect(weighted).toBe(0.5 * own);
    expect(loss).toBe(1.5 * own);
  });

  it('gives its constant a name in the graph, and nested ones names of their own', async () => {
    const { graph } = await runLoss(isoLoss({ lambda: 0.25, base: isoLoss({ lambda: 0.125 }) }), batch, output);
    const named = graph.constants.filter(({ name }) => name.startsWith('lambda'));
    expect(named.map(({ name, data }) => [name, data?.[0]])).toEqual([
      ['lambda', 0.125],
      ['lambda_1', 0.25],
    ]);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, -1])('refuses lambda %d by value', (lambda) => {
    expect(() => isoLoss({ lambda })).toThrow(InvalidArgumentError);
    expect(() => isoLoss({ lambda })).toThrow(String(lambda));
  });

  it('refuses inputs that would broadcast into a wrong loss', () => {
    const graph = new Graph('test');
    const value = (name: string, shape: number[]) => graph.input(name, 'float32', shape);
    const sample = value('sample', [4, 2]);
    const inputs = {
      modelOutput: sample,
      epsilon: sample,
      noisySample: sample,
      cleanSample: sample,
      alphaCumprod: value('alpha', [4, 1]),
      predictionType: 'epsilon' as const,
    };
    const build = (change: Partial<typeof inputs>) => () => isoLoss({ lambda: 0.1 })({ ...inputs, ...change });
    expect(build({})).not.toThrow();
    expect(build({ modelOutput: value('column', [4, 1]) })).toThrow(GraphError);
    expect(build({ cleanSample: value('row', [1, 2]) })).toThrow('cleanSample is float32 [1, 2]');
    expect(build({ alphaCumprod: value('vector', [4]) })).toThrow(GraphError);
    expect(build({ alphaCumprod: value('deep', [4, 1, 1]) })).toThrow('alphaCumprod');
  });
});

describe('loss configs', () => {
  it('survive a JSON round trip', () => {
    for (const loss of [simpleLoss(), isoLoss({ lambda: 0.1 }), isoLoss({ lambda: 0 })]) {
      expect(lossFromConfig(JSON.parse(JSON.stringify(loss.config))).config).toEqual(loss.config);
    }
    expect(isoLoss({ lambda: 0.1 }).config).toEqual({ name: 'iso', lambda: 0.1, base: { name: 'simple' } });
    expect(lossFromConfig({ name: 'iso', lambda: 0.2 }).config).toEqual(isoLoss({ lambda: 0.2 }).config);
  });

  it('know a loss that was registered, also as a base', () => {
    losses.register('own-l1', l1Loss);
    expect(losses.names()).toEqual(expect.arrayContaining(['simple', 'iso', 'hybrid', 'l1', 'own-l1']));
    const iso = isoLoss({ lambda: 0.1, base: l1Loss() });
    expect(lossFromConfig(iso.config).config).toEqual(iso.config);
    expect(lossFromConfig({ name: 'hybrid', base: iso.config }).config.base).toEqual(iso.config);
    expect(() => lossFromConfig({ name: 'hybird' })).toThrow(/Did you mean 'hybrid'/);
  });

  it.each([
    ['nothing', undefined],
    ['an unknown name', { name: 'l2' }],
    ['no lambda', { name: 'iso' }],
    ['a negative lambda', { name: 'iso', lambda: -1 }],
    ['an infinite lambda', { name: 'iso', lambda: Number.POSITIVE_INFINITY }],
    ['an unknown option', { name: 'simple', lambda: 0.1 }],
    ['a base that cannot be read back', { name: 'iso', lambda: 0.1, base: { name: 'l2' } }],
  ])('refuse %s', (_, json) => {
    expect(() => lossFromConfig(json)).toThrow(ConfigError);
  });
});
