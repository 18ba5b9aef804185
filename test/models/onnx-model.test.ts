import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { OnnxFormatError } from '../../src/errors.ts';
import { readSafetensors } from '../../src/files/safetensors.ts';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import { Graph } from '../../src/graph/graph.ts';
import { decodeModelProto } from '../../src/graph/onnx/schema.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { identity } from '../../src/graph/ops/index.ts';
import { isoLoss } from '../../src/losses/index.ts';
import { initialParameters, OnnxModel } from '../../src/models/index.ts';
import { ForwardContext } from '../../src/nn/context.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import { hostTensor, type RuntimeTensor, Session } from '../../src/runtime/session.ts';
import { ints, node, onnxFile } from '../graph/onnx-nodes.ts';

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

    const weights = initialParameters(model, 0);
    const graph = new Graph('check');
    const values = new Map(
      model.parameters.map((spec) => [spec.name, graph.input(spec.name, 'float32', spec.shape)] as const),
    );
    const inSample = graph.input('sample', 'float32', shape);
    const inNoise = graph.input('noise', 'float32', shape);
    const batch = shape[0] as number;
    const modelOutput = model.forward(
      { sample: inSample, timestep: graph.input('timestep', 'int32', [batch]) },
      new ForwardContext(values),
    );
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
          hostTensor('float32', spec.shape, weights.get(spec.name) as Float32Array),
        ]),
      ),
      sample: hostTensor('float32', shape, sample),
      noise: hostTensor('float32', shape, noise),
      timestep: hostTensor('int32', [batch], times),
    });
    await session.release();
    // Both compute in float32: some hundred roundings each.
    expect(difference(results.output?.data as Float32Array, output)).toBeLessThan(1e-5 * Math.hypot(...output));
    expect(results.loss?.data[0]).toBeCloseTo(loss, 5);
    const size = Math.hypot(...[...expected.values()].map((gradient) => Math.hypot(...gradient)));
    for (const [parameter, gradient] of expected) {
      const error = difference(results[`d/${parameter}`]?.data as Float32Array, gradient);
      expect(error, parameter).toBeLessThan(1e-4 * Math.hypot(...gradient) + 1e-6 * size);
    }
  });
});

/** The file's output by onnxruntime, and the output of `forward` for any timesteps. */
async function originalOutput(bytes: Uint8Array, shape: number[], sample: Float32Array, timestep: RuntimeTensor) {
  const session = await Session.create(bytes, 'cpu');
  const { out_sample } = await session.run({ sample: hostTensor('float32', shape, sample), timestep });
  await session.release();
  return Float32Array.from(out_sample?.data as Float32Array);
}

async function forwardOutput(model: OnnxModel, shape: number[], sample: Float32Array, times: number[]) {
  const graph = new Graph('forward');
  const weights = initialParameters(model, 0);
  const values = new Map(
    model.parameters.map((spec) => [
      spec.name,
      graph.constant('float32', spec.shape, weights.get(spec.name) as Float32Array, spec.name),
    ]),
  );
  const output = model.forward(
    {
      sample: graph.input('sample', 'float32', shape),
      timestep: graph.input('timestep', 'int32', [times.length]),
    },
    new ForwardContext(values),
  );
  graph.output('y', identity(output));
  const session = await Session.create(writeOnnx(graph), 'cpu');
  const { y } = await session.run({
    sample: hostTensor('float32', shape, sample),
    timestep: hostTensor('int32', [times.length], Int32Array.from(times)),
  });
  await session.release();
  return { data: Float32Array.from(y?.data as Float32Array), nodes: graph.nodes.length };
}

describe('OnnxModel', () => {
  const one = (name: string, value: number) =>
    name.endsWith('float')
      ? hostTensor('float32', [1], Float32Array.of(value))
      : hostTensor('int64', [], BigInt64Array.of(BigInt(value)));

  it.each(['unet-opset14-scalar', 'unet-opset17-float'])(
    'gives every sample its own timestep, though %s takes one for the batch',
    async (name) => {
      const { bytes, shape, sample } = await fixture(name);
      const { data, nodes } = await forwardOutput(OnnxModel.fromBytes(bytes), shape, sample, [5, 700]);
      const size = sample.length / 2;
      const first = await originalOutput(bytes, shape, sample, one(name, 5));
      const second = await originalOutput(bytes, shape, sample, one(name, 700));
      expect(difference(data.subarray(0, size), first.subarray(0, size))).toBeLessThan(1e-4);
      expect(difference(data.subarray(size), second.subarray(size))).toBeLessThan(1e-4);
      // All samples at once, not one after the other.
      const single = await forwardOutput(
        OnnxModel.fromBytes(bytes),
        [1, ...shape.slice(1)],
        sample.subarray(0, size),
        [5],
      );
      expect(nodes).toBeLessThan(single.nodes * 1.2);
    },
  );

  it('runs a file of a fixed batch of 1 sample by sample', async () => {
    const { shape, sample } = await fixture('unet-opset11');
    const bytes = onnxFile({
      opset: 13,
      inputs: { sample: [1, 3, 8, 8], timestep: [] },
      nodes: [
        node('Mul', ['timestep', 'w.scale'], ['scale']),
        node('Mul', ['sample', 'scale'], ['scaled']),
        node('Reshape', ['scaled', 'shape'], ['out_sample']),
      ],
      initializers: { 'w.scale': { shape: [1], values: [0.25] }, shape: ints(1, 3, 8, 8) },
      outputs: ['out_sample'],
    });
    const { data } = await forwardOutput(OnnxModel.fromBytes(bytes), shape, sample, [4, 8]);
    expect(Array.from(data)).toEqual(Array.from(sample, (x, i) => (i < sample.length / 2 ? x : 2 * x)));
  });

  it('writes back the file it read, with nothing changed but the trained initializers', async () => {
    const { bytes, shape, sample } = await fixture('unet-opset11');
    const model = OnnxModel.fromBytes(bytes);
    const weights = initialParameters(model, 0);
    const timestep = () => hostTensor('int64', [2], BigInt64Array.of(3n, 977n));
    const unchanged = model.toOnnx(weights);
    expect(await originalOutput(unchanged, shape, sample, timestep())).toEqual(
      await originalOutput(bytes, shape, sample, timestep()),
    );
    const bias = weights.get('unet.conv_out.bias') as Float32Array;
    const shifted = model.toOnnx(new Map([...weights, ['unet.conv_out.bias', bias.map((x) => x + 1)]]));
    const before = await originalOutput(bytes, shape, sample, timestep());
    const after = await originalOutput(shifted, shape, sample, timestep());
    expect(
      difference(
        after,
        before.map((x) => x + 1),
      ),
    ).toBeLessThan(1e-4);

    const plain = (file: Uint8Array) => {
      const decoded = decodeModelProto(file);
      const initializer = decoded.graph?.initializer?.map(({ name, dims, dataType }) => ({
        name,
        dims,
        dataType,
      }));
      return { ...decoded, graph: { ...decoded.graph, initializer } };
    };
    expect(plain(shifted)).toEqual(plain(bytes));
    // Fields that our schema does not know, such as value_info, are kept byte by byte.
    expect(shifted.length).toBe(unchanged.length);
    expect(Math.abs(unchanged.length - bytes.length)).toBeLessThan(8 * weights.size);
  });

  it('trains float16 weights in float32 and writes them as float16', () => {
    const half = Uint16Array.of(0x3c00, 0xc000, 0x3555, 0x0001);
    const file = onnxFile({
      opset: 13,
      inputs: { sample: ['batch', 2], timestep: ['batch'] },
      nodes: [
        node('Cast', ['sample'], ['narrow'], { to: 10 }),
        node('MatMul', ['narrow', 'w'], ['product']),
        node('Cast', ['product'], ['out_sample'], { to: 1 }),
      ],
      rawInitializers: [{ name: 'w', dims: [2, 2], dataType: 10, rawData: new Uint8Array(half.buffer) }],
      outputs: ['out_sample'],
    });
    const model = OnnxModel.fromBytes(file);
    const weights = initialParameters(model, 0);
    expect(Array.from(weights.get('w') as Float32Array)).toEqual([1, -2, Math.fround(0.333251953125), 2 ** -24]);
    expect(readRaw(model.toOnnx(weights), 'w')).toEqual(new Uint8Array(half.buffer));
    const moved = model.toOnnx(new Map([['w', Float32Array.of(1.0004, 70000, -0, 2 ** -25)]]));
    expect(readRaw(moved, 'w')).toEqual(new Uint8Array(Uint16Array.of(0x3c00, 0x7c00, 0x8000, 0).buffer));
  });
});

function readRaw(file: Uint8Array, name: string): Uint8Array | undefined {
  const model = decodeModelProto(file);
  const raw = model.graph?.initializer?.find((tensor) => tensor.name === name)?.rawData;
  return raw && new Uint8Array(raw);
}

it('trains through pools and batch normalization, whose running statistics stay as they are', async () => {
  const perChannel = (...values: number[]) => ({ shape: [values.length], values });
  const pads = [1, 1, 1, 1];
  const bytes = onnxFile({
    opset: 15,
    inputs: { sample: ['batch', 2, 4, 4], timestep: ['batch'] },
    nodes: [
      node('BatchNormalization', ['sample', 'scale', 'bias', 'mean', 'variance'], ['a'], {
        epsilon: { float: 1e-3 },
        momentum: { float: 0.9 },
        training_mode: 0,
      }),
      node('MaxPool', ['a'], ['b'], { kernel_shape: [3, 3], pads, strides: [1, 1], ceil_mode: 0 }),
      node('AveragePool', ['b'], ['c'], {
        kernel_shape: [3, 3],
        pads,
        strides: [1, 1],
        count_include_pad: 1,
      }),
      node('GlobalAveragePool', ['c'], ['d']),
      node('Add', ['c', 'd'], ['out_sample']),
    ],
    initializers: {
      scale: perChannel(1, 2),
      bias: perChannel(0.5, -0.5),
      mean: perChannel(0.1, 0.2),
      variance: perChannel(1, 4),
    },
    outputs: ['out_sample'],
  });
  const model = OnnxModel.fromBytes(bytes);
  expect(model.parameters.map(({ name }) => name)).toEqual(['scale', 'bias']);
  const all = OnnxModel.fromBytes(bytes, { trainable: () => true });
  expect(all.parameters.map(({ name }) => name)).toEqual(['scale', 'bias', 'mean', 'variance']);

  const shape = [3, 2, 4, 4];
  const values = Float32Array.from({ length: 96 }, (_, i) => Math.sin(1 + i * i));
  const run = async (file: Uint8Array, timestep: RuntimeTensor) => {
    const session = await Session.create(file, 'cpu');
    const { out_sample } = await session.run({ sample: hostTensor('float32', shape, values), timestep });
    await session.release();
    return Array.from(out_sample?.data as Float32Array);
  };
  const graph = new Graph('copy');
  const parameters = new Map(
    model.parameters.map((spec) => [
      spec.name,
      graph.constant('float32', [...spec.shape], initialParameters(model, 0).get(spec.name) ?? new Float32Array()),
    ]),
  );
  const output = model.forward(
    { sample: graph.input('sample', 'float32', shape), timestep: graph.input('timestep', 'int32', [3]) },
    new ForwardContext(parameters),
  );
  graph.output('out_sample', identity(output));
  const expected = await run(bytes, hostTensor('float32', [3], new Float32Array(3)));
  const result = await run(writeOnnx(graph), hostTensor('int32', [3], new Int32Array(3)));
  // Some roundings of float32 in values of about 1.
  expect(difference(result, expected)).toBeLessThan(1e-5);
});

describe('external data', () => {
  const root = mkdtempSync(path.join(tmpdir(), 'iso-external-'));
  afterAll(() => rmSync(root, { recursive: true, force: true }));
  mkdirSync(path.join(root, 'model'));
  const file = path.join(root, 'model', 'model.onnx');
  const data = Float32Array.of(9, 9, 1, 2, 3, 4);
  writeFileSync(path.join(root, 'model', 'model.onnx_data'), new Uint8Array(data.buffer));
  writeFileSync(path.join(root, 'outside'), new Uint8Array(data.buffer));
  symlinkSync('../outside', path.join(root, 'model', 'link'));

  const write = (entries: Record<string, string>) =>
    writeFileSync(
      file,
      onnxFile({
        opset: 13,
        inputs: { sample: ['batch', 1, 2, 2], timestep: [] },
        nodes: [node('Mul', ['sample', 'w'], ['out_sample'])],
        rawInitializers: [
          {
            name: 'w',
            dims: [2, 2],
            dataType: 1,
            dataLocation: 1,
            externalData: Object.entries(entries).map(([key, value]) => ({ key, value })),
          },
        ],
        outputs: ['out_sample'],
      }),
    );

  it('is read from beside the model, and written back into one file', async () => {
    write({ location: 'model.onnx_data', offset: '8', length: '16' });
    const model = await OnnxModel.fromFile(file);
    const weights = initialParameters(model, 0);
    expect(Array.from(weights.get('w') as Float32Array)).toEqual([1, 2, 3, 4]);
    const again = OnnxModel.fromBytes(model.toOnnx(new Map([['w', Float32Array.of(5, 6, 7, 8)]])));
    expect(Array.from(initialParameters(again, 0).get('w') as Float32Array)).toEqual([5, 6, 7, 8]);
    const generate = await pipeline('unconditional-image-generation', file, { device: 'cpu' });
    const output = await generate.model.predict(Float32Array.of(1, 1, 1, 1), 3);
    expect(Array.from(output)).toEqual([1, 2, 3, 4]);
    await generate.dispose();
  });

  it('that has changed is another model, whose images do not go into the same folder', async () => {
    write({ location: 'changing' });
    const draw = async (...weights: number[]) => {
      writeFileSync(path.join(root, 'model', 'changing'), new Uint8Array(Float32Array.from(weights).buffer));
      const generate = await pipeline('unconditional-image-generation', file, { device: 'cpu' });
      const target = path.join(root, 'images');
      return generate.toFolder(target, { count: 1, num_inference_steps: 1 }).finally(() => generate.dispose());
    };
    const digest = async () => (await OnnxModel.fromFile(file)).config.source_sha256;
    await draw(1, 2, 3, 4);
    const before = await digest();
    await draw(1, 2, 3, 4);
    expect(await digest()).toBe(before);
    await expect(draw(1, 2, 3, 5)).rejects.toThrow(/model_sha256/);
    expect(await digest()).not.toBe(before);
  });

  it.each([
    [{ location: '../outside' }, /not a path in the model's folder/],
    [{ location: '/etc/passwd' }, /not a path in the model's folder/],
    [{ location: 'link' }, /leaves the model's folder/],
    [{ location: 'nowhere' }, /does not exist/],
    [{ location: 'model.onnx_data', offset: '16' }, /has 24 bytes, but 'w' is said to lie at 16 to 32/],
    [{ location: 'model.onnx_data', offset: '0', length: '99999999999999' }, /16 bytes is said to lie/],
  ] as [Record<string, string>, RegExp][])('is refused at %j', async (entries, message) => {
    write(entries);
    await expect(OnnxModel.fromFile(file)).rejects.toThrow(OnnxFormatError);
    await expect(OnnxModel.fromFile(file)).rejects.toThrow(message);
  });
});
