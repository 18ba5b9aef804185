import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { ImageSet } from '../../src/datasets/index.ts';
import { loadPoints } from '../../src/datasets/index.ts';
import { InvalidArgumentError, OnnxFormatError } from '../../src/errors.ts';
import { encodeFloat16 } from '../../src/files/float-formats.ts';
import { decodeModelProto, encodeModelProto, type GraphProto } from '../../src/graph/onnx/schema.ts';
import { simpleLoss } from '../../src/losses/index.ts';
import { ConditionalDense, OnnxModel } from '../../src/models/index.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import { DDPMScheduler } from '../../src/schedulers/index.ts';
import { Trainer } from '../../src/trainers/trainer.ts';
import { node, onnxFile } from '../graph/onnx-nodes.ts';

const files = fileURLToPath(new URL('files/', import.meta.url));
let root: string;
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'iso-inputs-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const open = (file: string, options = {}) =>
  pipeline('unconditional-image-generation', file, { device: 'cpu', ...options });

/** A model file whose parts `change` may change, under a name of its own. */
async function written(name: string, bytes: Uint8Array, change: (graph: GraphProto) => void = () => undefined) {
  const model = decodeModelProto(bytes);
  change(model.graph ?? {});
  const file = path.join(root, name);
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, encodeModelProto(model));
  return file;
}

/** Exported by torch.onnx.export, 3x8x8; the values are torch's. */
async function expectTorchsOutput(file: string, options = {}) {
  const { output } = JSON.parse(await readFile(path.join(files, 'names-xt.json'), 'utf8'));
  // As torch.linspace(-1, 1, 384).
  const x = Float32Array.from({ length: 384 }, (_, i) => -1 + (2 * i) / 383);
  const generate = await open(file, options);
  const actual = await generate.model.predict(x, 10);
  const drawn = await generate({ batch_size: 3, num_inference_steps: 2, output_type: 'uint8' });
  await generate.dispose();
  expect(drawn.data).toHaveLength(3 * 192);
  // float32 in both, outputs up to 1.5: onnxruntime differs from torch by 1.2e-6.
  output.forEach((value: number, i: number) => {
    expect(Math.abs((actual[i] as number) - value)).toBeLessThan(1e-5);
  });
}

describe('a U-Net whose inputs have other names', () => {
  it.each([
    ['names-xt', {}],
    ['names-xt', { sample_shape: [3, 8, 8] }],
    ['names-xt', { input_names: { sample: 'x', timestep: 't' } }],
    ['names-timesteps', {}],
    ['names-timesteps', { sample_shape: [3, 8, 8] }],
  ])("%s with %j: torch's output", async (name, options) => {
    await expectTorchsOutput(path.join(files, `${name}.onnx`), options);
  });

  it('may list the timestep first', async () => {
    const bytes = await readFile(path.join(files, 'names-xt.onnx'));
    await expectTorchsOutput(await written('swapped.onnx', bytes, (graph) => graph.input?.reverse()));
  });

  it('may take the timestep as [batch, 1]', async () => {
    const bytes = await readFile(path.join(files, 'names-xt.onnx'));
    const column = await written('column.onnx', bytes, (graph) => {
      const t = graph.input?.find(({ name }) => name === 't');
      t?.type?.tensorType?.shape?.dim?.push({ dimValue: 1 });
      for (const each of graph.node ?? []) each.input = each.input?.map((name) => (name === 't' ? 'flat' : name)) ?? [];
      graph.initializer?.push({ name: 'all', dims: [1], dataType: 7, rawData: new Uint8Array(8).fill(255) });
      graph.node?.unshift(node('Reshape', ['t', 'all'], ['flat']));
    });
    await expectTorchsOutput(column);
    expect(OnnxModel.fromBytes(await readFile(column)).sampleShape).toEqual([3, 8, 8]);
  });

  it('is named with its inputs where they do not tell which is which, and opens by the option', async () => {
    const bytes = onnxFile({
      opset: 17,
      nodes: [node('Mul', ['a', 'w'], ['half']), node('Add', ['half', 'b'], ['y'])],
      inputs: { a: ['n', 2], b: ['n', 2] },
      initializers: { w: { shape: [2], values: [0.5, 0.5] } },
    });
    const file = await written('ambiguous.onnx', bytes);
    await expect(open(file)).rejects.toThrow(OnnxFormatError);
    await expect(open(file)).rejects.toThrow(/inputs a \[n, 2\], b \[n, 2\].*input_names/);
    await expect(open(file, { input_names: { sample: 'c' } })).rejects.toThrow(
      /input_names.sample is 'c', but .* a \[/,
    );
    await expect(open(file, { input_names: { smaple: 'a' } })).rejects.toThrow(InvalidArgumentError);
    expect(() => OnnxModel.fromBytes(bytes)).toThrow(/input_names/);
    // [batch, 2] is a timestep under no name.
    expect(() => OnnxModel.fromBytes(bytes, { input_names: { sample: 'a', timestep: 'b' } })).toThrow(OnnxFormatError);
  });
});

const noise: ImageSet = {
  name: 'noise',
  count: 8,
  channels: 1,
  height: 4,
  width: 4,
  labels: undefined,
  skipped: [],
  fingerprint: '0'.repeat(64),
  pixels: (index) => Uint8Array.from({ length: 16 }, (_, i) => ((16 * index + i) * 2654435761) >>> 24),
} as ImageSet;
const training = (output_dir: string) => ({
  args: { output_dir, max_steps: 3, per_device_train_batch_size: 4, device: 'cpu', report_to: [] } as const,
  loss: simpleLoss(),
  noise_scheduler: new DDPMScheduler(),
});

describe('what Trainer.fromOnnx trains and saves opens as a pipeline', () => {
  it('in float16, sample, timestep and output too', async () => {
    const bytes = onnxFile({
      opset: 17,
      nodes: [
        node('Conv', ['x', 'w'], ['c'], { pads: [1, 1, 1, 1] }),
        node('Reshape', ['t', 'shape'], ['t4']),
        node('Mul', ['t4', 's'], ['ts']),
        node('Add', ['c', 'ts'], ['y']),
      ],
      inputs: { x: ['b', 1, 4, 4], t: ['b'] },
      initializers: {
        w: { shape: [1, 1, 3, 3], values: [0, 0.25, 0, 0.25, 0.5, 0.25, 0, 0.25, 0] },
        s: { shape: [1, 1, 1, 1], values: [2 ** -10] },
        shape: { shape: [4], values: [-1, 1, 1, 1], type: 'int64' },
      },
    });
    const half = await written('half.onnx', bytes, (graph) => {
      for (const { type } of [...(graph.input ?? []), ...(graph.output ?? [])])
        if (type?.tensorType) type.tensorType.elemType = 10;
      for (const tensor of graph.initializer ?? []) {
        if (tensor.dataType !== 1) continue;
        tensor.rawData = new Uint8Array(encodeFloat16(Float32Array.from(tensor.floatData ?? [])).buffer);
        tensor.dataType = 10;
        tensor.floatData = [];
      }
    });
    const trainer = await Trainer.fromOnnx(half, { ...training(path.join(root, 'half')), train_dataset: noise });
    await trainer.train();
    const folder = path.join(root, 'half/pipeline');
    await trainer.savePipeline(folder);
    const generate = await open(folder);
    // A delta of the trained filter, and the timestep: exact in float16 but for the last bit of the weights.
    const sample = new Float32Array(16).fill(0, 0);
    sample[5] = 1;
    const output = await generate.model.predict(sample, 512);
    const [w = new Float32Array(), s = new Float32Array()] = ['w', 's'].map((name) => trainer.weights().get(name));
    const expected = (i: number) => {
      const [dy, dx] = [1 - Math.floor(i / 4), 1 - (i % 4)];
      const tap = Math.abs(dy) <= 1 && Math.abs(dx) <= 1 ? (w[(dy + 1) * 3 + dx + 1] ?? 0) : 0;
      return tap + 512 * (s[0] ?? 0);
    };
    output.forEach((value, i) => {
      expect(Math.abs(value - expected(i))).toBeLessThan(2e-3);
    });
    const { data } = await generate({ batch_size: 3, num_inference_steps: 3, output_type: 'uint8' });
    expect(data).toHaveLength(48);
    await generate.dispose();
  });

  it('of points, whose network joins point and timestep under names of its own', async () => {
    const bytes = onnxFile({
      opset: 17,
      nodes: [
        node('Mul', ['when', 'scale'], ['t']),
        node('Concat', ['where', 't'], ['joined'], { axis: 1 }),
        node('Gemm', ['joined', 'w', 'b'], ['y']),
      ],
      inputs: { where: ['points', 2], when: ['times', 1] },
      initializers: {
        scale: { shape: [], values: [0.001] },
        w: { shape: [3, 2], values: [0.9, 0, 0, 0.9, 0.1, -0.1] },
        b: { shape: [2], values: [0, 0] },
      },
    });
    const trainer = await Trainer.fromOnnx(await written('joined.onnx', bytes), {
      ...training(path.join(root, 'joined')),
      train_dataset: await loadPoints('moons', { n: 64 }),
    });
    await trainer.train();
    const folder = path.join(root, 'joined/pipeline');
    await trainer.savePipeline(folder);
    const generate = await pipeline('unconditional-point-generation', folder, { device: 'cpu' });
    const { points, dims } = await generate({ batch_size: 5, num_inference_steps: 4 });
    expect(dims).toEqual([5, 2]);
    expect(points.every(Number.isFinite)).toBe(true);
    const [w = [], b = []] = ['w', 'b'].map((name) => Array.from(trainer.weights().get(name) ?? []));
    const [value] = await generate.model.predict(Float32Array.of(1, -1, 0.5, 0), [100, 900]);
    expect(value).toBeCloseTo((w[0] ?? 0) - (w[2] ?? 0) + 0.1 * (w[4] ?? 0) + (b[0] ?? 0), 5);
    await generate.dispose();
  });

  it('by the names that were given, which the folder keeps', async () => {
    const bytes = onnxFile({
      opset: 17,
      // A point of one dimension, beside [batch, 1] for the timestep.
      nodes: [node('Mul', ['t', 'scale'], ['s']), node('Mul', ['u', 'w'], ['uw']), node('Add', ['uw', 's'], ['y'])],
      inputs: { t: ['n', 1], u: ['n', 1] },
      initializers: { scale: { shape: [], values: [0.001] }, w: { shape: [1], values: [0.5] } },
    });
    const file = await written('line.onnx', bytes);
    const options = { ...training(path.join(root, 'line')), train_dataset: await loadPoints('moons', { n: 16 }) };
    await expect(Trainer.fromOnnx(file, options)).rejects.toThrow(/input_names/);
    const set = { ...options.train_dataset, data: Float32Array.from({ length: 16 }, (_, i) => i / 8 - 1), dims: 1 };
    const trainer = await Trainer.fromOnnx(file, {
      ...options,
      train_dataset: { ...set, scaler: { kind: 'none', offset: [0], scale: [1] } },
      onnx: { input_names: { sample: 'u', timestep: 't' } },
    });
    await trainer.train();
    await trainer.savePipeline(path.join(root, 'line/pipeline'));
    const generate = await pipeline('unconditional-point-generation', path.join(root, 'line/pipeline'), {
      device: 'cpu',
    });
    const [value] = await generate.model.predict(Float32Array.of(0), 500);
    expect(value).toBeCloseTo(0.5, 6);
    await generate.dispose();
  });
});

describe('weights beside the file', () => {
  /** names-xt.onnx with its tensors in `location`. */
  async function external(folder: string, location: string): Promise<string> {
    const parts: Uint8Array[] = [];
    let offset = 0;
    const file = await written(
      path.join(folder, 'model.onnx'),
      await readFile(path.join(files, 'names-xt.onnx')),
      (graph) => {
        for (const tensor of graph.initializer ?? []) {
          const { rawData } = tensor;
          if (!rawData || rawData.length < 64) continue;
          const entries = { location, offset: String(offset), length: String(rawData.length) };
          tensor.externalData = Object.entries(entries).map(([key, value]) => ({ key, value }));
          tensor.dataLocation = 1;
          delete tensor.rawData;
          parts.push(rawData);
          offset += rawData.length;
        }
      },
    );
    const data = path.join(path.dirname(file), location);
    await mkdir(path.dirname(data), { recursive: true });
    await writeFile(data, Buffer.concat(parts));
    return file;
  }

  it.each([
    ['ext', 'model.onnx_data'],
    ['ext sub', 'weights/w.bin'],
    ['ext ünï #1 100%', 'модель.onnx.data'],
  ])('are found in %s under %s', async (folder, location) => {
    await expectTorchsOutput(await external(folder, location));
  });

  it('are found through links, as the cache of the Hub has them, and named where they are missing', async () => {
    const file = await external('blobs', 'model.onnx.data');
    const links = path.join(root, 'snapshot');
    await mkdir(links);
    for (const name of ['model.onnx', 'model.onnx.data'])
      await symlink(path.join(path.dirname(file), name), path.join(links, name));
    await expectTorchsOutput(path.join(links, 'model.onnx'));
    const alone = path.join(root, 'alone');
    await mkdir(alone);
    await cp(file, path.join(alone, 'model.onnx'));
    await expect(open(path.join(alone, 'model.onnx'))).rejects.toThrow(/alone\/model\.onnx\.data does not exist/);
  });
});

describe('a folder of points', () => {
  const draw = { batch_size: 40, num_inference_steps: 5, seed: 3 };
  const folderOf = async (name: string) => {
    const trainer = new Trainer({
      model: new ConditionalDense({ hidden_features: 16, num_hidden_layers: 1 }),
      ...training(path.join(root, name)),
      train_dataset: await loadPoints('moons', { n: 64, scaling: 'standardise' }),
    });
    await trainer.train();
    const folder = path.join(root, name, 'pipeline');
    await trainer.savePipeline(folder);
    return folder;
  };
  const drawn = async (folder: string) => {
    const generate = await pipeline('unconditional-point-generation', folder, { device: 'cpu' });
    const result = await generate(draw);
    await generate.dispose();
    return result.points;
  };

  it('opens from safetensors alone, and draws the same points', async () => {
    const folder = await folderOf('dense');
    const expected = await drawn(folder);
    await rm(path.join(folder, 'unet/model.onnx'));
    expect(await drawn(folder)).toEqual(expected);
  });

  it('that is a model alone draws in the units of the model, with a warning', async () => {
    const warn = vi.spyOn(process, 'emitWarning').mockReturnValue();
    const folder = await folderOf('alone-dense');
    const unet = path.join(folder, 'unet');
    await rm(path.join(unet, 'model.onnx'));
    const points = await drawn(unet);
    expect(warn.mock.calls.map(String).join()).toMatch(
      /no .*point_scaler\.json: the points come in the units of the model/,
    );
    warn.mockRestore();
    const generate = await pipeline('unconditional-point-generation', folder, { device: 'cpu' });
    expect((await generate({ ...draw, output_type: 'scaled' })).points).toEqual(points);
    await generate.dispose();
  });

  it('without either names what it lacks', async () => {
    const folder = await folderOf('empty-dense');
    await rm(path.join(folder, 'unet/model.onnx'));
    await rm(path.join(folder, 'unet/diffusion_pytorch_model.safetensors'));
    await expect(drawn(folder)).rejects.toThrow(/lacks its file .*diffusion_pytorch_model\.safetensors/);
  });
});
