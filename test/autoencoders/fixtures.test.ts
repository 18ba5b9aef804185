import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { autoencoderFromConfig, type KlAutoencoder, type VqAutoencoder } from '../../src/autoencoders/index.ts';
import { type NamedTensor, readSafetensors } from '../../src/files/safetensors.ts';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import type { Graph, Value } from '../../src/graph/graph.ts';
import { abs, add, exp, identity, mul, square, sub } from '../../src/graph/ops/elementwise.ts';
import { reduceMean, reduceSum } from '../../src/graph/ops/reduce.ts';
import { scalarLike } from '../../src/graph/registry.ts';
import { permuteAxes } from '../../src/nn/layout.ts';
import { graphWith, layouts, relativeError, run } from './cases.ts';

const fixtures = new URL('../fixtures/vae/', import.meta.url).pathname;
type Tensors = ReadonlyMap<string, NamedTensor>;
const float32 = (tensors: Tensors, name: string) => Float32Array.from(tensors.get(name)?.data ?? [], Number);

/** What a case is computed from. */
async function opened(name: string) {
  const folder = `${fixtures}${name}/`;
  const autoencoder = autoencoderFromConfig(JSON.parse(readFileSync(`${folder}config.json`, 'utf8')));
  const given = await readSafetensors(`${folder}case.safetensors`);
  const weights = await readSafetensors(`${folder}diffusion_pytorch_model.safetensors`);
  return { autoencoder, given, weights };
}

const input = (graph: Graph, given: Tensors, name: string) =>
  graph.input(name, 'float32', given.get(name)?.shape ?? []);
const output = (graph: Graph, name: string, value: Value) => graph.output(name, identity(value));

const klCases = ['kl-small', 'kl-one-channel', 'kl-no-quant-conv'].flatMap((name) =>
  (['nchw', 'hwnc'] as const).map((order) => [name, order] as const),
);

describe.each(klCases)('%s, %s', (name, order) => {
  it('mean, logvar, decoded images, losses and every gradient are those of diffusers', async () => {
    const { autoencoder, given, weights } = await opened(name);
    const kl = autoencoder as KlAutoencoder;
    const { graph, parameters, context } = graphWith(kl, order, ({ name }) => float32(weights, name));
    const sample = input(graph, given, 'sample');
    const { mean, logvar } = kl.encode(sample, context);
    const deviation = exp(mul(logvar, scalarLike(logvar, 0.5)));
    const latent = add(mean, mul(deviation, input(graph, given, 'eps')));
    const decoded = kl.decode(latent, context);
    const l1 = reduceMean(abs(sub(decoded, sample)));
    const ones = scalarLike(mean, 1);
    const terms = sub(add(square(mean), exp(logvar)), add(ones, logvar));
    const perSample = mul(reduceSum(terms, [1, 2, 3]), scalarLike(mean, 0.5));
    const loss = add(l1, mul(reduceMean(perSample), scalarLike(mean, float32(given, 'beta')[0] ?? 0)));
    for (const [key, value] of Object.entries({
      mean,
      logvar,
      latent,
      decoded,
      loss_l1: l1,
      kl_per_sample: perSample,
      loss,
    }))
      output(graph, key, value);
    output(graph, 'decoded_mean', kl.decode(mean, context));
    const found = gradients(loss, [...parameters.values()]);
    [...parameters.keys()].forEach((key, i) => {
      output(graph, `d_${key}`, found[i] as Value);
    });

    const outputs = await run(graph, (name) => float32(given, name));
    for (const key of ['mean', 'logvar', 'latent', 'decoded', 'decoded_mean', 'loss_l1', 'kl_per_sample', 'loss'])
      expect(relativeError(outputs[key]?.data as Float32Array, float32(given, key)), key).toBeLessThan(1e-5);
    const gradientNames = [...given.keys()].filter((key) => key.startsWith('grad/'));
    expect(gradientNames).toHaveLength(kl.parameters.length);
    for (const spec of kl.parameters) {
      const actual = outputs[`d_${spec.name}`]?.data as Float32Array;
      const torch = float32(given, `grad/${spec.name}`);
      const expected = spec.isFilter ? permuteAxes(torch, spec.shape, layouts[order].filterAxes) : torch;
      // The bias of a key shifts all scores of a pixel alike: the true gradient is 0, and torch's is rounding.
      if (spec.name.endsWith('.to_k.bias')) expect(Math.hypot(...actual)).toBeLessThan(1e-6);
      else expect(relativeError(actual, expected), spec.name).toBeLessThan(1e-4);
    }
  });
});

describe.each(['nchw', 'hwnc'] as const)('vq-small, %s', (order) => {
  it('latents, indices, quantised latents and decoded images are those of diffusers', async () => {
    const { autoencoder, given, weights } = await opened('vq-small');
    const vq = autoencoder as VqAutoencoder;
    const { graph, context } = graphWith(vq, order, ({ name }) => float32(weights, name));
    const { latents } = vq.encode(input(graph, given, 'sample'), context);
    const { quantized, indices } = vq.quantize(latents, context);
    output(graph, 'latents', latents);
    output(graph, 'quantized', quantized);
    output(graph, 'indices', indices);
    output(graph, 'decoded', vq.decode(latents, context));
    output(graph, 'decoded_not_quantized', vq.decode(latents, context, { force_not_quantize: true }));
    output(graph, 'looked_up', vq.decode(indices, context, { force_not_quantize: true }));

    const outputs = await run(graph, (name) => float32(given, name));
    for (const key of ['latents', 'quantized', 'decoded', 'decoded_not_quantized'])
      expect(relativeError(outputs[key]?.data as Float32Array, float32(given, key)), key).toBeLessThan(1e-5);
    expect(Array.from(outputs.indices?.data as BigInt64Array, Number)).toEqual([...float32(given, 'indices')]);
    expect(relativeError(outputs.looked_up?.data as Float32Array, float32(given, 'decoded'))).toBeLessThan(1e-5);
  });
});
