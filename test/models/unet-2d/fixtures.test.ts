import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type NamedTensor, readSafetensors } from '../../../src/files/safetensors.ts';
import type { Graph } from '../../../src/graph/graph.ts';
import { writeOnnx } from '../../../src/graph/onnx/write.ts';
import { concatenated } from '../../../src/graph/types.ts';
import { exportModelGraph, UNet2DModel } from '../../../src/models/index.ts';
import { readModelWeights } from '../../../src/models/weights.ts';
import { hwnc } from '../../../src/nn/hwnc.ts';
import { nchw, permuteAxes } from '../../../src/nn/layout.ts';
import type { ParameterSpec } from '../../../src/nn/parameters.ts';
import { hostTensor, type RuntimeTensor, Session, type TensorMap } from '../../../src/runtime/session.ts';
import { shapeIn } from '../../../src/trainers/step/loss-graph.ts';
import { caseFeeds, caseGraph } from './case-graph.ts';

const fixtures = new URL('../../fixtures/unet/', import.meta.url).pathname;
const float32 = (tensor: NamedTensor | undefined) => tensor?.data as Float32Array;

/** Values by diffusers and torch; both sides compute in float32, torch differs from its own float64 by about 1e-6. */
function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  const values = Array.from(expected);
  return Math.hypot(...values.map((value, i) => value - (actual[i] ?? Number.NaN))) / Math.hypot(...values);
}

const orders = { nchw, hwnc };

/** The channels of a fixture's sample as the inputs of an exported model. */
function splitChannels(input: RuntimeTensor | undefined, { conditionChannels = 0 }: UNet2DModel): TensorMap {
  const { dims = [], data } = input ?? {};
  const [batch = 1, channels = 1, ...size] = dims;
  const pixels = size.reduce((product, side) => product * side, 1);
  const range = (from: number, to: number) => {
    const parts = Array.from({ length: batch }, (_, i) =>
      (data as Float32Array).slice((i * channels + from) * pixels, (i * channels + to) * pixels),
    );
    return hostTensor('float32', [batch, to - from, ...size], concatenated(parts));
  };
  const first = channels - conditionChannels;
  return { sample: range(0, first), ...(first < channels ? { condition: range(first, channels) } : {}) };
}

/** By diffusers 0.40, see make-variants.py. */
const madeHere = ['skip-attention', 'skip-scale-shift', 'learned-time-identity-class'].map(variant);

const names = [
  ...['ddpm-style', 'default-style', 'no-mid-block'],
  // By diffusers 0.32.
  ...['gelu', 'mish-time-dim', 'relu-scale-shift-groups', 'no-mid-attention', 'three-levels-odd'].map(variant),
  ...['fourier-time', 'resample-resnet-in-attention', 'resnet-down-up', 'class-timestep'].map(variant),
  ...madeHere,
];
const cases = names.flatMap((name) => (['nchw', 'hwnc'] as const).map((order) => [name, order] as const));

function modelIn(folder: string): UNet2DModel {
  return UNet2DModel.fromConfig(JSON.parse(readFileSync(`${folder}config.json`, 'utf8')));
}

function variant(name: string): string {
  return `variants/${name}`;
}

describe.each(cases)('%s, %s', (name, order) => {
  const layout = orders[order];
  const folder = `${fixtures}${name}/`;
  const model = modelIn(folder);

  /** Output, losses and all gradients of one run. */
  async function run(lambda: number) {
    const given = await readSafetensors(`${folder}case.safetensors`);
    const weights = await readModelWeights(model, `${folder}diffusion_pytorch_model.safetensors`);
    const parameterIn = (graph: Graph, spec: ParameterSpec) =>
      graph.constant('float32', shapeIn(layout, spec), inOrder(spec, weights), spec.name);
    const session = await Session.create(writeOnnx(caseGraph(model, given, lambda, parameterIn, { layout })), 'cpu');
    const outputs = await session.run(caseFeeds(given));
    await session.release();
    return { given, outputs };
  }

  const inOrder = ({ name, shape, isFilter }: ParameterSpec, weights: ReadonlyMap<string, Float32Array>) => {
    const values = weights.get(name) ?? new Float32Array();
    return isFilter ? permuteAxes(values, shape, layout.filterAxes) : values;
  };

  const kinds = [['mse', 0] as const, ['iso', 0.1] as const];
  // The variants have the gradients of the iso loss alone: they are those of the base and of the penalty.
  it.each(name.startsWith('variants/') ? kinds.slice(1) : kinds)(
    'output, loss_%s and the gradient of every parameter',
    async (kind, lambda) => {
      const { given, outputs } = await run(lambda);
      expect(relativeError(outputs.output?.data as Float32Array, float32(given.get('output')))).toBeLessThan(1e-5);
      const loss = float32(given.get(`loss_${kind}`));
      expect(relativeError(outputs.loss?.data as Float32Array, loss)).toBeLessThan(1e-5);
      const gradientNames = [...given.keys()].filter((key) => key.startsWith(`grad_${kind}/`));
      expect(gradientNames).toHaveLength(model.parameters.filter(({ isFrozen }) => !isFrozen).length);
      for (const key of gradientNames) {
        const parameter = key.slice(`grad_${kind}/`.length);
        const actual = outputs[`d_${parameter}`]?.data as Float32Array;
        const spec = model.parameters.find(({ name }) => name === parameter);
        const torch = float32(given.get(key));
        const expected = spec?.isFilter ? permuteAxes(torch, spec.shape, layout.filterAxes) : torch;
        // The bias of a key shifts all scores of a pixel alike, and what is added to a channel that is normalised alone has
        // no effect. There the true gradient is 0, and torch's is rounding.
        const isAlone = name.includes('three-levels') && /resnets.*(conv\w+\.bias|time_emb_proj)/.test(parameter);
        const isZero = parameter.endsWith('.to_k.bias') || (isAlone && Math.hypot(...expected) < 1e-6);
        if (isZero) expect(Math.hypot(...actual)).toBeLessThan(1e-5);
        else expect(relativeError(actual, expected), parameter).toBeLessThan(1e-4);
      }
    },
  );
});

describe('ddpm-cifar10-32', () => {
  const listed = JSON.parse(readFileSync(`${fixtures}ddpm-cifar10-32.shapes.json`, 'utf8'));

  it('has the parameters of google/ddpm-cifar10-32 by name, shape and order', () => {
    const model = UNet2DModel.fromConfig({ _class_name: 'UNet2DModel', ...listed.config });
    expect(model.parameters.map(({ name, shape }) => [name, shape])).toEqual(Object.entries(listed.shapes));
    expect(model.parameters).toHaveLength(328);
    const count = model.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    expect(count).toBe(35_746_307);
  });
});

describe.each(names)('%s', (name) => {
  const folder = `${fixtures}${name}/`;
  const model = modelIn(folder);

  it('gives the same when it is exported', async () => {
    const given = await readSafetensors(`${folder}case.safetensors`);
    const weights = await readModelWeights(model, `${folder}diffusion_pytorch_model.safetensors`);
    const timestepType = model.takesFractionalTimesteps ? 'float32' : 'int64';
    const session = await Session.create(writeOnnx(exportModelGraph(model, weights, timestepType)), 'cpu');
    const { sample, timestep, class_labels } = caseFeeds(given);
    const steps = Array.from(timestep?.data as Float32Array);
    const { out_sample } = await session.run({
      ...splitChannels(sample, model),
      timestep: hostTensor(
        timestepType,
        [steps.length],
        timestepType === 'int64' ? BigInt64Array.from(steps, BigInt) : Float32Array.from(steps),
      ),
      ...(class_labels ? { class_labels } : {}),
    });
    await session.release();
    expect(relativeError(out_sample?.data as Float32Array, float32(given.get('output')))).toBeLessThan(1e-5);
  });
});

it.each(madeHere)('%s has its parameters in the order of torch', async (name) => {
  const stored = await readSafetensors(`${fixtures}${name}/diffusion_pytorch_model.safetensors`);
  expect(modelIn(`${fixtures}${name}/`).parameters.map(({ name }) => name)).toEqual([...stored.keys()]);
});

it('has the parameters of google/ncsnpp-celebahq-256, as diffusers names, shapes and orders them', () => {
  const model = UNet2DModel.fromConfig(
    JSON.parse(readFileSync(`${fixtures}published/google-ncsnpp-celebahq-256.json`, 'utf8')),
  );
  expect(model.parameters).toHaveLength(645);
  expect(model.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0)).toBe(65_574_549);
  // json.dumps([[name, list(p.shape)] for name, p in model.named_parameters()], separators=(',', ':'))
  const listed = JSON.stringify(model.parameters.map(({ name, shape }) => [name, shape]));
  expect(createHash('sha256').update(listed).digest('hex')).toBe(
    'd590e768728074591df6f6095fee8ffdde8165202dbfe879ef4e7cdea7a77750',
  );
});
