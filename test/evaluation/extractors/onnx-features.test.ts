import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DisposedError, FileFormatError, InvalidArgumentError, OnnxFormatError } from '../../../src/errors.ts';
import { imageTensor } from '../../../src/evaluation/extractors/image-tensor.ts';
import { featureGraph, parameterShapes } from '../../../src/evaluation/extractors/networks/feature-network.ts';
import { inceptionV3 } from '../../../src/evaluation/extractors/networks/inception-v3.ts';
import { OnnxFeatures, type OnnxFeaturesOptions } from '../../../src/evaluation/extractors/onnx-features.ts';
import { Graph } from '../../../src/graph/graph.ts';
import { writeOnnx } from '../../../src/graph/onnx/write.ts';
import { add, reduceMean } from '../../../src/graph/ops/index.ts';
import { nextTurn } from '../../../src/platform/node/system.ts';
import { RandomStream } from '../../../src/random/random-stream.ts';
import { hostTensor, Session } from '../../../src/runtime/session.ts';
import { node, onnxFile } from '../../graph/onnx-nodes.ts';

let folder: string;
let model: string;
let options: OnnxFeaturesOptions;
let bytes: Uint8Array;

/** Means of the colours: as (n, 3, 1, 1) like an Inception's pooling, as (n, 3), and the maps before the pooling. */
function meanColourModel(): Uint8Array {
  const graph = new Graph('mean-colour');
  const x = graph.input('pixels', 'float32', ['n', 3, 4, 4]);
  graph.output('pool3', reduceMean(x, [2, 3], { keepdims: true }));
  graph.output('flat', reduceMean(x, [2, 3]));
  graph.output('maps', add(x, x));
  graph.output('total', reduceMean(x));
  return writeOnnx(graph);
}

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'onnx-features-'));
  model = path.join(folder, 'mean-colour.onnx');
  bytes = meanColourModel();
  await writeFile(model, bytes);
  options = { model, output_name: 'pool3', image_size: { height: 4, width: 4 } };
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const plain = (height: number, width: number, ...colour: number[]) => ({
  data: Uint8Array.from({ length: height * width * colour.length }, (_, at) => colour[at % colour.length] ?? 0),
  height,
  width,
  channels: colour.length,
});
const images = [plain(4, 4, 0, 255, 51), plain(9, 2, 255, 0, 0), plain(3, 3, 102)];

describe('on the cpu', () => {
  const network = inceptionV3({ narrow: 16 });
  const shapes = parameterShapes(network);
  const stream = new RandomStream(0);
  const model = writeOnnx(
    featureGraph(network, (name) => {
      const [filters = 0, ...inputs] = shapes.get(name) ?? [];
      const perFilter = inputs.reduce((product, length) => product * length, 1);
      const values = stream.fillNormal(new Float32Array(filters * perFilter));
      return values.map((value) => (name.endsWith('running_var') ? 1 : value * Math.sqrt(2 / perFilter)));
    }),
  );
  const side = network.imageSize;
  const noise = { data: Uint8Array.from({ length: side * side * 3 }, () => stream.integer(256)), channels: 3 };
  const image = { ...noise, height: side, width: side };

  test('features are taken in a thread, to the bits of a session here', async () => {
    const extractor = await OnnxFeatures.load({ model: { name: 'inception', bytes: model }, batch_size: 4 });
    let isRunning = true;
    const extraction = extractor.extract([image, image, image]).finally(() => {
      isRunning = false;
    });
    let turns = 0;
    while (isRunning) {
      await nextTurn();
      turns++;
    }
    // A run that blocks this thread leaves it three or four turns.
    expect(turns).toBeGreaterThan(20);

    const session = await Session.create(model, 'cpu');
    const half = [0.5, 0.5, 0.5] as const;
    const pixels = imageTensor([image, image, image], {
      ...{ height: side, width: side, layout: 'NCHW', mean: half, std: half },
    });
    const { 2048: expected } = await session.run({ images: hostTensor('float32', [3, 3, side, side], pixels) });
    expect(await extraction).toEqual(expected?.data);
    await Promise.all([session.release(), extractor.dispose()]);
  });

  test('an extractor that is disposed of while it works rejects the call', async () => {
    const extractor = await OnnxFeatures.load({ model: { name: 'inception', bytes: model } });
    const extraction = expect(extractor.extract([image])).rejects.toThrow(DisposedError);
    await extractor.dispose();
    await extraction;
  });
});

describe('features', () => {
  test.each(['pool3', 'flat'])('of output %s, over several batches and image sizes', async (output_name) => {
    const extractor = await OnnxFeatures.load({ ...options, output_name, batch_size: 2 });
    expect(extractor.dims).toBe(3);
    expect(extractor.name).toBe(`mean-colour.onnx:${output_name}`);
    expect(extractor.checksum).toBe(createHash('sha256').update(bytes).digest('hex'));
    const features = await extractor.extract(images);
    // pixel / 255 scaled to [-1, 1]; a mean of 16 float32 values.
    const expected = [-1, 1, -0.6, 1, -1, -1, -0.2, -0.2, -0.2];
    expect(features).toHaveLength(9);
    features.forEach((value, at) => {
      expect(Math.abs(value - (expected[at] as number))).toBeLessThan(1e-6);
    });
    expect(await extractor.extract([])).toHaveLength(0);
    await extractor.dispose();
  });

  test('with the mean and std of a preprocessor_config.json', async () => {
    const extractor = await OnnxFeatures.load({
      ...options,
      input_name: 'pixels',
      image_mean: [0, 0.5, 0.2],
      image_std: [1, 2, 0.5],
    });
    const features = await extractor.extract(images.slice(0, 1));
    [0, 0.25, 0].forEach((value, at) => {
      expect(Math.abs((features[at] as number) - value)).toBeLessThan(1e-6);
    });
    await extractor.dispose();
  });
});

describe('what is wrong is named', () => {
  test.each<[string, Partial<OnnxFeaturesOptions>, RegExp]>([
    ['an output of maps', { output_name: 'maps' }, /'maps' has the shape \(1, 3, 4, 4\)/],
    ['an output of one number', { output_name: 'total' }, /'total' has the shape \(\)/],
    [
      'an unknown output',
      { output_name: 'pool4' },
      /no output 'pool4'; set output_name to one of pool3, flat, maps, total/,
    ],
    ['an unknown input', { input_name: 'image' }, /no input 'image'; set input_name to one of pixels/],
    ['a batch of none', { batch_size: 0 }, /batch_size is 0/],
    ['an image size of none', { image_size: { height: 4, width: 0 } }, /image_size.width is 0/],
    ['a std of 0', { image_std: [1, 0, 1] }, /image_std is \[1, 0, 1\]/],
  ])('%s', async (_, wrong, message) => {
    const error = await OnnxFeatures.load({ ...options, ...wrong }).catch((caught) => caught);
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error.message).toMatch(message);
  });

  test('a missing file and a file that is no model', async () => {
    await expect(OnnxFeatures.load({ ...options, model: path.join(folder, 'none.onnx') })).rejects.toThrow(
      FileFormatError,
    );
    const damaged = path.join(folder, 'damaged.onnx');
    await writeFile(damaged, bytes.subarray(0, 60));
    await expect(OnnxFeatures.load({ ...options, model: damaged })).rejects.toThrow(OnnxFormatError);
  });

  test('an image whose data do not fit', async () => {
    const extractor = await OnnxFeatures.load(options);
    await expect(extractor.extract([{ ...plain(4, 4, 1), width: 5 }])).rejects.toThrow(/image 0 has 16 values/);
    await extractor.dispose();
  });
});

describe('the checksum of a model with external data', () => {
  const data = Float32Array.of(2, 3, 4);
  const weights = (values: Float32Array) => new Uint8Array(values.buffer);
  /** Mean colours times the weights of a file beside the model. */
  const scaledModel = (location: string) =>
    onnxFile({
      opset: 17,
      inputs: { pixels: ['n', 3, 4, 4] },
      nodes: [node('GlobalAveragePool', ['pixels'], ['means']), node('Mul', ['means', 'w'], ['y'])],
      rawInitializers: [
        {
          name: 'w',
          dims: [3, 1, 1],
          dataType: 1,
          dataLocation: 1,
          externalData: [{ key: 'location', value: location }],
        },
      ],
    });
  const written = async (name: string, location: string) => {
    const home = path.join(folder, name);
    await mkdir(home);
    const file = path.join(home, 'scaled.onnx');
    await writeFile(file, scaledModel(location));
    return { home, file };
  };
  const digest = (...parts: Uint8Array[]) => {
    const hash = createHash('sha256');
    for (const part of parts) hash.update(part);
    return hash.digest('hex');
  };

  test('is that of the model and its data, and changes with them', async () => {
    const { home, file } = await written('scaled', 'scaled.onnx_data');
    const opened = async (values: Float32Array) => {
      await writeFile(path.join(home, 'scaled.onnx_data'), weights(values));
      const extractor = await OnnxFeatures.load({ model: file });
      const features = await extractor.extract([plain(4, 4, 255)]);
      await extractor.dispose();
      return { checksum: extractor.checksum, features };
    };
    const first = await opened(data);
    expect([...first.features]).toEqual([2, 3, 4]);
    expect(first.checksum).toBe(digest(scaledModel('scaled.onnx_data'), weights(data)));
    const changed = Float32Array.of(2, 3, 5);
    const second = await opened(changed);
    expect([...second.features]).toEqual([2, 3, 5]);
    expect(second.checksum).toBe(digest(scaledModel('scaled.onnx_data'), weights(changed)));
    expect(second.checksum).not.toBe(first.checksum);
  });

  test.each([
    ['../outside', /"..\/outside", which is not a path in the model's folder/],
    ['/etc/hostname', /"\/etc\/hostname", which is not a path in the model's folder/],
    ['link', /leaves the model's folder/],
    ['nowhere', /does not exist/],
    ['.', /is not a regular file|leaves the model's folder/],
  ])('is not taken of data at %s', async (location, message) => {
    await writeFile(path.join(folder, 'outside'), weights(data));
    const { home, file } = await written(`hostile ${location.replaceAll('/', '-')}`, location);
    await symlink('../outside', path.join(home, 'link'));
    const loading = OnnxFeatures.load({ model: file });
    await expect(loading).rejects.toThrow(OnnxFormatError);
    await expect(loading).rejects.toThrow(message);
  });
});
