import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { autoencoderFromConfig } from '../../src/autoencoders/index.ts';
import { type NamedTensor, readSafetensors } from '../../src/files/safetensors.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { autoencoderLoss } from '../../src/losses/autoencoder.ts';
import { hwnc } from '../../src/nn/hwnc.ts';
import { nchw, permuteAxes } from '../../src/nn/layout.ts';
import { hostTensor, Session } from '../../src/runtime/session.ts';
import { AutoencoderObjective } from '../../src/trainers/step/autoencoder-objective.ts';
import { asHostTensors, batchInputs } from '../../src/trainers/step/batch.ts';
import { buildGradientGraph, gradientName, reportOf, shapeIn } from '../../src/trainers/step/loss-graph.ts';
import { settingsOf } from '../../src/trainers/step/settings.ts';
import { resolveTrainingArguments } from '../../src/trainers/training-arguments.ts';

const fixtures = new URL('../fixtures/vae/', import.meta.url).pathname;
type Tensors = ReadonlyMap<string, NamedTensor>;
const floats = (tensors: Tensors, name: string) => Float32Array.from(tensors.get(name)?.data ?? [], Number);

function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  const values = Array.from(expected);
  return Math.hypot(...values.map((value, i) => value - (actual[i] ?? Number.NaN))) / Math.hypot(...values);
}

const cases = {
  'kl-small': { gradients: 'case.safetensors', weights: {} },
  'kl-one-channel': { gradients: 'case.safetensors', weights: {} },
  'kl-no-quant-conv': { gradients: 'case.safetensors', weights: {} },
  'vq-small': { gradients: 'gradients.safetensors', weights: { commitment_weight: 0.25 } },
} as const;

/** The terms and the gradients of the step of a trainer, of the batch and the weights of a fixture. */
async function stepOf(name: keyof typeof cases, layout: typeof hwnc, given: Tensors) {
  const folder = `${fixtures}${name}/`;
  const autoencoder = autoencoderFromConfig(JSON.parse(readFileSync(`${folder}config.json`, 'utf8')));
  const weights = await readSafetensors(`${folder}diffusion_pytorch_model.safetensors`);
  const [batch = 0, ...shape] = given.get('sample')?.shape ?? [];
  const [beta] = floats(given, 'beta');
  const loss = autoencoderLoss({ ...cases[name].weights, kl_weight: beta });
  const objective = new AutoencoderObjective(autoencoder, loss, shape);
  const args = resolveTrainingArguments({ output_dir: 'unused', per_device_train_batch_size: batch });
  const { graph, terms } = buildGradientGraph(settingsOf(objective, args), layout);
  const session = await Session.create(writeOnnx(graph), 'cpu');
  const samples = {
    clean: floats(given, 'sample'),
    noise: floats(given, 'eps'),
    timestep: new Int32Array(),
    class_labels: undefined,
  };
  const parameters = autoencoder.parameters.map((spec) => {
    const values = floats(weights, spec.name);
    const data = spec.isFilter ? permuteAxes(values, spec.shape, layout.filterAxes) : values;
    return [spec.name, hostTensor('float32', shapeIn(layout, spec), data)] as const;
  });
  const outputs = await session.run({
    ...asHostTensors(batchInputs(objective, samples, [1, batch])),
    ...Object.fromEntries(parameters),
  });
  await session.release();
  return { autoencoder, outputs, report: reportOf(terms.names, outputs.terms?.data as Float32Array) };
}

describe.each(Object.keys(cases) as (keyof typeof cases)[])('a training step of %s', (name) => {
  it.each([
    ['nchw', nchw],
    ['hwnc', hwnc],
  ])('has the losses and gradients of torch, in the order %s', async (_, layout) => {
    const given = await readSafetensors(`${fixtures}${name}/case.safetensors`);
    const expected = await readSafetensors(`${fixtures}${name}/${cases[name].gradients}`);
    const { autoencoder, outputs, report } = await stepOf(name, layout, given);
    const value = (key: string) => floats(expected, key)[0] ?? Number.NaN;
    expect(report.loss).toBeCloseTo(value('loss'), 4);
    if (autoencoder.kind === 'kl') {
      const perSample = floats(given, 'kl_per_sample');
      expect(Object.keys(report)).toEqual(['loss', 'reconstruction', 'kl']);
      expect(report.reconstruction).toBeCloseTo(value('loss_l1'), 5);
      const kl = perSample.reduce((sum, each) => sum + each, 0) / perSample.length;
      expect(Math.abs((report.kl ?? Number.NaN) / kl - 1)).toBeLessThan(1e-5);
    } else {
      expect(Object.keys(report)).toEqual(['loss', 'reconstruction', 'codebook', 'commitment', 'perplexity']);
      for (const term of ['reconstruction', 'codebook', 'commitment', 'perplexity'])
        expect(report[term], term).toBeCloseTo(value(term), 5);
    }
    for (const spec of autoencoder.parameters) {
      const actual = outputs[gradientName(spec.name)]?.data as Float32Array;
      const torch = floats(expected, `grad/${spec.name}`);
      const wanted = spec.isFilter ? permuteAxes(torch, spec.shape, layout.filterAxes) : torch;
      // The bias of a key shifts all scores of a pixel alike: the true gradient is 0.
      if (spec.name.endsWith('.to_k.bias')) expect(Math.hypot(...actual)).toBeLessThan(1e-6);
      else expect(relativeError(actual, wanted), spec.name).toBeLessThan(1e-4);
    }
  });
});
