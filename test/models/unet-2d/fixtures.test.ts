import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type NamedTensor, readSafetensors } from '../../../src/files/safetensors.ts';
import type { Graph } from '../../../src/graph/graph.ts';
import { writeOnnx } from '../../../src/graph/onnx/write.ts';
import { UNet2DModel } from '../../../src/models/index.ts';
import { hwnc } from '../../../src/nn/hwnc.ts';
import { nchw, permuteAxes } from '../../../src/nn/layout.ts';
import type { ParameterSpec } from '../../../src/nn/parameters.ts';
import { Session } from '../../../src/runtime/session.ts';
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

const cases = [
  ...['ddpm-style', 'default-style', 'no-mid-block'],
  // By diffusers 0.32.
  ...['gelu', 'mish-time-dim', 'relu-scale-shift-groups', 'no-mid-attention', 'three-levels-odd'].map(variant),
  ...['fourier-time', 'resample-resnet-in-attention', 'resnet-down-up'].map(variant),
].flatMap((name) => (['nchw', 'hwnc'] as const).map((order) => [name, order] as const));

function variant(name: string): string {
  return `variants/${name}`;
}

describe.each(cases)('%s, %s', (name, order) => {
  const layout = orders[order];
  const folder = `${fixtures}${name}/`;
  const model = UNet2DModel.fromConfig(JSON.parse(readFileSync(`${folder}config.json`, 'utf8')));

  /** Output, losses and all gradients of one run. */
  async function run(lambda: number) {
    const given = await readSafetensors(`${folder}case.safetensors`);
    const weights = await readSafetensors(`${folder}diffusion_pytorch_model.safetensors`);
    const parameterIn = (graph: Graph, spec: ParameterSpec) =>
      graph.constant('float32', shapeIn(layout, spec), inOrder(spec, weights), spec.name);
    const session = await Session.create(writeOnnx(caseGraph(model, given, lambda, parameterIn, { layout })), 'cpu');
    const outputs = await session.run(caseFeeds(given));
    await session.release();
    return { given, outputs };
  }

  const inOrder = ({ name, shape, isFilter }: ParameterSpec, weights: Map<string, NamedTensor>) =>
    isFilter ? permuteAxes(float32(weights.get(name)), shape, layout.filterAxes) : float32(weights.get(name));

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
