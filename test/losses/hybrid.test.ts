import { describe, expect, it } from 'vitest';
import { ConfigError, GraphError, InvalidArgumentError } from '../../src/errors.ts';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import { Graph } from '../../src/graph/graph.ts';
import { hybridLoss, isoLoss, lossFromConfig, simpleLoss, variationalBoundLoss } from '../../src/losses/index.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { relativeError, runGraph } from '../models/run-graph.ts';
import { centralDifferences, mean, plainNoisy } from './plain-losses.ts';
import { type PlainPrediction, plainVariationalTerm } from './plain-variational-bound.ts';

const stream = new RandomStream(21);
const normals = (length: number) => stream.fillNormal(new Float64Array(length));
const betas = Float64Array.from(new DDPMScheduler().betas);
const alphaBars = betas.map((_, t) => betas.subarray(0, t + 1).reduce((bar, beta) => bar * (1 - beta), 1));
/** The first timestep, where the bound is a likelihood, among others; twice, because a batch may hold it twice. */
const timesteps = [0, 1, 400, 999, 0];
const sampleSize = 4;
const count = timesteps.length * sampleSize;
/** Levels of images, both ends among them. */
const clean = Float64Array.from({ length: count }, (_, i) => [-1, 1, 3 / 255, -101 / 255][i % 4] as number);
const epsilon = normals(count);
const variance = normals(count).map((x) => 0.6 * x);
const batch = { n: sampleSize, clean, epsilon, alphaCumprod: timesteps.map((t) => alphaBars[t] as number) };
const timeOf = (i: number) => timesteps[Math.floor(i / sampleSize)] as number;

/** Outputs near what they should be: at t = 0 a whole unit of error is a hundred deviations. */
function outputFor(type: PlainPrediction): Float64Array {
  const target = {
    epsilon,
    sample: clean,
    v_prediction: clean.map((x, i) => {
      const bar = alphaBars[timeOf(i)] as number;
      return Math.sqrt(bar) * (epsilon[i] as number) - Math.sqrt(1 - bar) * x;
    }),
  }[type];
  const scale = type === 'sample' ? 0.004 : 0.3;
  return target.map((x, i) => x + scale * Math.sin(7 * i + 1));
}

function plainBound(type: PlainPrediction, output: ArrayLike<number>, v: ArrayLike<number>): number {
  return mean(
    Array.from({ length: count }, (_, i) =>
      plainVariationalTerm(betas, type, {
        t: timeOf(i),
        clean: clean[i] as number,
        epsilon: epsilon[i] as number,
        output: Number(output[i]),
        variance: Number(v[i]),
      }),
    ),
  );
}

/**
 * The loss in a graph, with its gradients for both halves of the output.
 *
 * @param inputNoise the noise in x_t; default: epsilon.
 */
async function run(
  loss: ReturnType<typeof hybridLoss>,
  type: PlainPrediction,
  dtype: 'float32' | 'float64' = 'float64',
  { output = outputFor(type), inputNoise }: { output?: Float64Array; inputNoise?: Float64Array } = {},
) {
  const shape = [timesteps.length, sampleSize];
  const data = (values: ArrayLike<number>) =>
    dtype === 'float64' ? Float64Array.from(values) : Float32Array.from(values);
  const noisy = plainNoisy({ ...batch, epsilon: inputNoise ?? epsilon });
  const arrays = { output, variance, epsilon, clean, noisy, ...(inputNoise ? { inputNoise } : {}) };
  const graph = new Graph('hybrid');
  const input = (name: keyof typeof arrays | 'inputNoise') => graph.input(name, dtype, shape);
  const [modelOutput, varianceOutput] = [input('output'), input('variance')];
  const { loss: value, terms } = loss({
    modelOutput,
    epsilon: input('epsilon'),
    inputNoise: inputNoise && input('inputNoise'),
    noisySample: input('noisy'),
    cleanSample: input('clean'),
    alphaCumprod: graph.input('alpha', dtype, [timesteps.length, 1]),
    predictionType: type,
    learnedVariance: {
      output: varianceOutput,
      timestep: graph.input('timestep', 'int32', [timesteps.length]),
      betas,
    },
  });
  graph.output('loss', value);
  for (const [name, term] of Object.entries(terms)) graph.output(name, term);
  gradients(value, [modelOutput, varianceOutput]).forEach((gradient, i) => {
    graph.output(`d${i}`, gradient);
  });
  const outputs = await runGraph(graph, {
    ...Object.fromEntries(Object.entries(arrays).map(([name, values]) => [name, { dtype, shape, data: data(values) }])),
    alpha: { dtype, shape: [timesteps.length, 1], data: data(batch.alphaCumprod) },
    timestep: { dtype: 'int32', shape: [timesteps.length], data: Int32Array.from(timesteps) },
  });
  return {
    loss: outputs.loss?.data[0] ?? Number.NaN,
    base: outputs.base_loss?.data[0] ?? Number.NaN,
    bound: outputs.variational_bound?.data[0] ?? Number.NaN,
    dMean: outputs.d0?.data ?? [],
    dVariance: outputs.d1?.data ?? [],
    graph,
  };
}

describe('hybridLoss', () => {
  it.each<PlainPrediction>(['epsilon', 'v_prediction', 'sample'])(
    "is the base loss and guided-diffusion's bound, in float64: %s",
    async (type) => {
      const output = outputFor(type);
      const terms = await run(hybridLoss(), type);
      // The bound alone: the default weight 0.001 times 1,000 timesteps is 1.
      const bound = plainBound(type, output, variance);
      expect(bound).toBeGreaterThan(0.01);
      // The alphas of T cancel in the reference's differences of means: about 1e-12 of them is left.
      expect(relativeError([terms.loss - terms.base], [bound])).toBeLessThan(1e-9);
      expect(relativeError([terms.bound * betas.length * 0.001], [bound])).toBeLessThan(1e-9);
      const named = terms.graph.constants.find(({ name }) => name === 'vlb_weight');
      expect(named?.data?.[0]).toBe(1);
      const slope = centralDifferences((v) => plainBound(type, output, v), variance);
      expect(relativeError(terms.dVariance, slope)).toBeLessThan(1e-6);
    },
  );

  it('lets the bound not touch the mean part: its gradient is that of the base, bit for bit', async () => {
    for (const base of [simpleLoss(), isoLoss({ lambda: 0.3 })]) {
      const alone = await run(hybridLoss({ base, vlb_weight: 0 }), 'epsilon', 'float32');
      const both = await run(hybridLoss({ base, vlb_weight: 0.5 }), 'epsilon', 'float32');
      expect(both.dMean).toEqual(alone.dMean);
      expect(both.base).toBe(alone.base);
      expect(both.loss).toBeGreaterThan(alone.loss);
      expect(alone.dVariance.every((slope) => slope === 0)).toBe(true);
    }
  });

  it.each(['epsilon', 'v_prediction'] as const)(
    'bounds what is predicted from x_t, where that has other noise than the model is asked for: %s',
    async (type) => {
      // Small, because the bound is of x_0 itself: at t = 0 a unit of noise is a hundredth of it.
      const inputNoise = epsilon.map((value, i) => value + 0.1 * Math.sin(5 * i));
      const noisy = plainNoisy({ ...batch, epsilon: inputNoise });
      const output = outputFor(type);
      const predicted = output.map((value, i) => {
        const bar = alphaBars[timeOf(i)] as number;
        const [signal, sigma, x] = [Math.sqrt(bar), Math.sqrt(1 - bar), noisy[i] as number];
        return type === 'epsilon' ? (x - sigma * value) / signal : signal * x - sigma * value;
      });
      const found = await run(hybridLoss(), type, 'float64', { output, inputNoise });
      const bound = (await run(hybridLoss(), 'sample', 'float64', { output: predicted, inputNoise })).bound;
      // x_0 is what is left of x_t less its noise, which at t = 999 is a hundred times as large.
      expect(relativeError([found.bound], [bound])).toBeLessThan(1e-9);
      expect(relativeError([found.bound], [(await run(hybridLoss(), type)).bound])).toBeGreaterThan(1e-4);
      // The base is of the noise that is asked for.
      expect(relativeError([found.base], [(await run(hybridLoss(), type)).base])).toBeLessThan(1e-12);
    },
  );

  it('is good to float32 at every timestep', async () => {
    const [single, double] = [await run(hybridLoss(), 'epsilon', 'float32'), await run(hybridLoss(), 'epsilon')];
    // In the likelihood the argument of the distribution function, up to 20, is good to 20 x 2^-24.
    expect(relativeError([single.loss], [double.loss])).toBeLessThan(1e-5);
    expect(relativeError(single.dVariance, double.dVariance)).toBeLessThan(1e-4);
  });

  it('weights the bound by vlb_weight and the number of timesteps', async () => {
    const [one, two] = [await run(hybridLoss(), 'epsilon'), await run(hybridLoss({ vlb_weight: 0.002 }), 'epsilon')];
    expect(relativeError([two.loss - two.base], [2 * (one.loss - one.base)])).toBeLessThan(1e-12);
  });

  it.each([-1, Number.NaN, Number.POSITIVE_INFINITY])('refuses the weight %d by value', (vlb_weight) => {
    expect(() => hybridLoss({ vlb_weight })).toThrow(InvalidArgumentError);
    expect(() => hybridLoss({ vlb_weight })).toThrow(String(vlb_weight));
  });

  it('refuses a base that learns the variance already', () => {
    expect(() => hybridLoss({ base: hybridLoss() })).toThrow(InvalidArgumentError);
  });

  it('refuses inputs without a learned variance, or of another shape', () => {
    const graph = new Graph('g');
    const sample = graph.input('sample', 'float32', [2, 4]);
    const inputs = {
      modelOutput: sample,
      epsilon: sample,
      noisySample: sample,
      cleanSample: sample,
      alphaCumprod: graph.input('alpha', 'float32', [2, 1]),
      predictionType: 'epsilon' as const,
    };
    const timestep = graph.input('timestep', 'int32', [2]);
    expect(() => hybridLoss()(inputs)).toThrow(GraphError);
    expect(() => hybridLoss()(inputs)).toThrow(/needs learnedVariance/);
    const row = graph.input('row', 'float32', [1, 4]);
    const build = (learnedVariance: { output: typeof sample; timestep: typeof timestep }) => () =>
      hybridLoss()({ ...inputs, learnedVariance: { ...learnedVariance, betas } });
    expect(build({ output: sample, timestep })).not.toThrow();
    expect(build({ output: row, timestep })).toThrow(/\[1, 4\]/);
    expect(build({ output: sample, timestep: graph.input('one', 'int32', [1]) })).toThrow(/must be \[2\]/);
  });

  it('survives a JSON round trip with its base', () => {
    for (const loss of [hybridLoss(), hybridLoss({ base: isoLoss({ lambda: 0.2 }), vlb_weight: 0.01 })])
      expect(lossFromConfig(JSON.parse(JSON.stringify(loss.config))).config).toEqual(loss.config);
    expect(lossFromConfig({ name: 'hybrid' }).config).toEqual(hybridLoss().config);
    expect(lossFromConfig({ name: 'hybrid' }).learnsVariance).toBe(true);
    expect(() => lossFromConfig({ name: 'hybrid', vlb_weight: -1 })).toThrow(ConfigError);
    expect(() => lossFromConfig({ name: 'hybrid', base: { name: 'hybrid' } })).toThrow(ConfigError);
  });

  it('counts as learning the variance through a wrapper too', () => {
    expect(isoLoss({ lambda: 0.1, base: hybridLoss() }).learnsVariance).toBe(true);
    expect(isoLoss({ lambda: 0.1 }).learnsVariance).toBe(false);
  });
});

describe('variationalBoundLoss', () => {
  const inputs = {
    predicted_variance: variance,
    predicted_noise: outputFor('epsilon'),
    noise: epsilon,
    clean,
    timesteps,
    betas,
  };

  it("is guided-diffusion's bound on plain arrays, with its gradient", () => {
    const { loss, gradient } = variationalBoundLoss(inputs);
    expect(relativeError([loss], [plainBound('epsilon', inputs.predicted_noise, variance)])).toBeLessThan(1e-9);
    const slope = centralDifferences((v) => plainBound('epsilon', inputs.predicted_noise, v), variance);
    expect(relativeError(gradient, slope)).toBeLessThan(1e-6);
  });

  it('is finite, with no slope, where no level is likely', () => {
    const predicted_noise = epsilon.map((x) => x + 1000);
    const { loss, gradient } = variationalBoundLoss({ ...inputs, predicted_noise });
    expect(Number.isFinite(loss)).toBe(true);
    expect(gradient.subarray(2, 4)).toEqual(new Float64Array(2));
  });

  it('refuses sizes and timesteps that do not fit', () => {
    const call = (change: object) => () => variationalBoundLoss({ ...inputs, ...change });
    expect(call({ noise: new Float64Array(3) })).toThrow(/noise has 3/);
    expect(call({ timesteps: [1, 2, 3] })).toThrow(/3 timesteps do not divide/);
    expect(call({ timesteps: [0, 1, 2, 3, 1000] })).toThrow(/timestep 1000/);
    expect(call({ timesteps: [0, 1, 2, 3, 1000] })).toThrow(InvalidArgumentError);
  });
});
