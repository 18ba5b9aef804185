import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { autoencoderFromConfig, type KlAutoencoder, type VqAutoencoder } from '../../src/autoencoders/index.ts';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import type { Value } from '../../src/graph/graph.ts';
import { abs, add, exp, identity, mul, square, stopGradient, sub } from '../../src/graph/ops/elementwise.ts';
import { reduceMean } from '../../src/graph/ops/reduce.ts';
import { scalarLike } from '../../src/graph/registry.ts';
import { elementCount } from '../../src/graph/types.ts';
import { inverseAxes, permuteAxes } from '../../src/nn/layout.ts';
import type { ParameterSpec } from '../../src/nn/parameters.ts';
import type { TensorMap } from '../../src/runtime/session.ts';
import { filledWeights, graphWith, type LayoutName, layouts, noise, relativeError, run } from './cases.ts';

// Options of diffusers' classes that the folders of fixtures do not have: test/fixtures/vae/make-references.py.
interface Reference {
  readonly config: Record<string, unknown>;
  readonly shape: number[];
  readonly names: string[];
  readonly loss: number;
  /** Of each parameter its norm, and its products with three vectors of `noise`. */
  readonly gradients: Record<string, [norm: number, ...products: number[]]>;
  readonly [output: string]: unknown;
}
const references: Record<string, Reference> = JSON.parse(
  readFileSync(new URL('../fixtures/vae/references.json', import.meta.url), 'utf8'),
);
const reference = (name: string) => references[name] as Reference;
const feeds = (name: string, shape: readonly number[]) => noise(elementCount(shape), name === 'sample' ? 500 : 501);
const numbers = (outputs: TensorMap, name: string) => Array.from(outputs[name]?.data as Float32Array, Number);

/** A gradient of the graph with the norm and the products that are known of it. */
function compareGradient(outputs: TensorMap, spec: ParameterSpec, order: LayoutName, known: readonly number[]) {
  const { filterAxes } = layouts[order];
  const found = outputs[`d_${spec.name}`]?.data as Float32Array;
  const permuted = filterAxes.map((axis) => spec.shape[axis] ?? 1);
  const gradient = spec.isFilter ? permuteAxes(found, permuted, inverseAxes(filterAxes)) : found;
  const [norm = 0, ...products] = known;
  // What is added to a channel that is normalised alone has no effect, nor has the bias of a key: torch's is rounding.
  if (norm < 1e-6) {
    expect(Math.hypot(...gradient), spec.name).toBeLessThan(1e-6);
    return;
  }
  expect(Math.abs(Math.hypot(...gradient) / norm - 1), spec.name).toBeLessThan(1e-4);
  products.forEach((product, k) => {
    const other = noise(gradient.length, 1000 + k);
    const own = gradient.reduce((sum, value, i) => sum + value * (other[i] ?? 0), 0);
    expect(Math.abs(own - product) / (norm * Math.hypot(...other)), spec.name).toBeLessThan(1e-4);
  });
}

describe.each(['nchw', 'hwnc'] as const)('%s', (order) => {
  it('an AutoencoderKL with attention in both halves, mish, and clamped variances is that of diffusers', async () => {
    const { config, shape, names, loss, gradients: known, ...expected } = reference('kl-attention-mish');
    const kl = autoencoderFromConfig(config) as KlAutoencoder;
    expect(kl.parameters.map(({ name }) => name)).toEqual(names);
    const { graph, parameters, context } = graphWith(kl, order, (spec, index) =>
      filledWeights(spec, index).map((value) => (spec.name === 'quant_conv.weight' ? 40 * value : value)),
    );
    const sample = graph.input('sample', 'float32', shape);
    const { mean, logvar } = kl.encode(sample, context);
    const eps = graph.input('eps', 'float32', mean.shape.map(Number));
    const decoded = kl.decode(add(mean, mul(exp(mul(logvar, scalarLike(mean, 0.05))), eps)), context);
    const penalty = mul(reduceMean(sub(square(mean), logvar)), scalarLike(mean, 0.01));
    const total = add(reduceMean(abs(sub(decoded, sample))), penalty);
    const found = gradients(total, [...parameters.values()]);
    const values = { mean, logvar, decoded, loss: total };
    for (const [name, value] of Object.entries(values)) graph.output(name, identity(value));
    names.forEach((name, i) => {
      graph.output(`d_${name}`, identity(found[i] as Value));
    });
    const outputs = await run(graph, (name) => feeds(name, name === 'sample' ? shape : mean.shape.map(Number)));
    for (const name of ['mean', 'logvar', 'decoded'])
      expect(relativeError(numbers(outputs, name), expected[name] as number[]), name).toBeLessThan(1e-5);
    expect(numbers(outputs, 'logvar').filter((value) => value === -30 || value === 20)).toHaveLength(
      expected.clamped as number,
    );
    expect(numbers(outputs, 'loss')[0]).toBeCloseTo(loss, 5);
    for (const spec of kl.parameters) compareGradient(outputs, spec, order, known[spec.name] ?? []);
  });

  // The layouts do not differ in the second.
  it.each(order === 'nchw' ? ['vq-spatial', 'vq-dimensions'] : ['vq-spatial'])(
    '%s: what a VQModel gives, and its gradients, are those of diffusers',
    async (name) => {
      const { config, shape, names, loss, gradients: known, ...expected } = reference(name);
      const vq = autoencoderFromConfig(config) as VqAutoencoder;
      expect(vq.parameters.map(({ name }) => name)).toEqual(names);
      const { graph, parameters, context } = graphWith(vq, order, filledWeights);
      const sample = graph.input('sample', 'float32', shape);
      const { latents } = vq.encode(sample, context);
      const { quantized, entries, indices } = vq.quantize(latents, context);
      const decoded = vq.decode(latents, context);
      // As diffusers weighs them: the codebook's part by its beta.
      const commitment = reduceMean(square(sub(latents, stopGradient(entries))));
      const codebook = reduceMean(square(sub(entries, stopGradient(latents))));
      const both = add(commitment, mul(codebook, scalarLike(codebook, 0.25)));
      const total = add(reduceMean(abs(sub(decoded, sample))), both);
      const found = gradients(total, [...parameters.values()]);
      const values = { latents, quantized, indices, decoded, commitment: both, loss: total };
      for (const [key, value] of Object.entries(values)) graph.output(key, identity(value));
      names.forEach((name, i) => {
        graph.output(`d_${name}`, identity(found[i] as Value));
      });
      const outputs = await run(graph, (name) => feeds(name, shape));
      for (const key of ['latents', 'quantized', 'decoded'])
        expect(relativeError(numbers(outputs, key), expected[key] as number[]), key).toBeLessThan(1e-5);
      expect(numbers(outputs, 'indices')).toEqual(expected.indices);
      expect(numbers(outputs, 'commitment')[0]).toBeCloseTo(expected.commitment as number, 5);
      expect(numbers(outputs, 'loss')[0]).toBeCloseTo(loss, 5);
      for (const spec of vq.parameters) compareGradient(outputs, spec, order, known[spec.name] ?? []);
    },
  );
});
