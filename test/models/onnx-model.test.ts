import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { gradients } from '../../src/graph/gradients.ts';
import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { identity } from '../../src/graph/ops/index.ts';
import { readSafetensors } from '../../src/hub/safetensors.ts';
import { isoLoss } from '../../src/losses/index.ts';
import { initialParameters, OnnxModel } from '../../src/models/index.ts';
import { hostTensor, Session } from '../../src/runtime/session.ts';

const folder = new URL('../fixtures/onnx-in/', import.meta.url);
const fixtureNames = ['unet-opset11', 'unet-opset14-scalar', 'unet-opset17-float', 'odd-opset16'];

/** See scripts/export_onnx_fixtures.py. */
async function fixture(name: string) {
  const reference = await readSafetensors(new URL(`${name}.safetensors`, folder).pathname);
  const values = (key: string) => reference.get(key)?.data as Float32Array;
  return {
    bytes: new Uint8Array(readFileSync(new URL(`${name}.onnx`, folder))),
    shape: [...(reference.get('sample')?.shape ?? [])],
    sample: values('sample'),
    noise: values('noise'),
    output: values('output'),
    loss: values('loss')[0] as number,
    timestep: Array.from<number | bigint, number>(reference.get('timestep')?.data ?? [], Number),
    gradients: new Map(
      [...reference].flatMap(([key, { data }]) =>
        key.startsWith('grad/') ? [[key.slice(5), data as Float32Array] as const] : [],
      ),
    ),
  };
}

function difference(a: ArrayLike<number> | undefined, b: ArrayLike<number>): number {
  return Math.hypot(...Array.from(b, (value, i) => value - (a?.[i] ?? Number.NaN)));
}

describe.each(fixtureNames)('a model of torch.onnx.export: %s', (name) => {
  it("gives torch's output, Iso loss and gradients", async () => {
    const { bytes, shape, sample, noise, output, loss, timestep, gradients: expected } = await fixture(name);
    const model = OnnxModel.fromBytes(bytes);
    expect(model.parameters.map((parameter) => parameter.name).sort()).toEqual([...expected.keys()].sort());

    const graph = new Graph('check');
    const values = new Map(
      model.parameters.map((spec) => [spec.name, graph.input(spec.name, 'float32', spec.shape)] as const),
    );
    const inSample = graph.input('sample', 'float32', shape);
    const inNoise = graph.input('noise', 'float32', shape);
    const batch = shape[0] as number;
    const modelOutput = model.forward(inSample, graph.input('timestep', 'int32', [batch]), values);
    expect(modelOutput.shape).toEqual(shape);
    const terms = isoLoss({ lambda: 0.1 })({
      modelOutput,
      epsilon: inNoise,
      noisySample: inSample,
      cleanSample: inSample,
      alphaCumprod: inNoise,
      predictionType: 'epsilon',
    });
    const names = [...values.keys()];
    gradients(terms.loss, [...values.values()]).forEach((gradient, i) => {
      graph.output(`d/${names[i]}`, identity(gradient));
    });
    graph.output('output', identity(modelOutput));
    graph.output('loss', identity(terms.loss));
    const session = await Session.create(writeOnnx(graph), 'cpu');
    const times = Int32Array.from({ length: batch }, (_, i) => timestep[i] ?? (timestep[0] as number));
    const results = await session.run({
      ...Object.fromEntries(
        model.parameters.map((spec) => [
          spec.name,
          hostTensor('float32', spec.shape, initialParameters(model, 0).get(spec.name) as Float32Array),
        ]),
      ),
      sample: hostTensor('float32', shape, sample),
      noise: hostTensor('float32', shape, noise),
      timestep: hostTensor('int32', [batch], times),
    });
    await session.release();
    // Both compute in float32: some hundred roundings each.
    expect(difference(results.output?.data as Float32Array, output)).toBeLessThan(
      1e-5 * Math.hypot(...output),
    );
    expect(results.loss?.data[0]).toBeCloseTo(loss, 5);
    const size = Math.hypot(...[...expected.values()].map((gradient) => Math.hypot(...gradient)));
    for (const [parameter, gradient] of expected) {
      const error = difference(results[`d/${parameter}`]?.data as Float32Array, gradient);
      expect(error, parameter).toBeLessThan(1e-4 * Math.hypot(...gradient) + 1e-6 * size);
    }
  });
});
