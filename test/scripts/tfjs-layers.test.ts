import { createRequire } from 'node:module';
import { describe, expect, it } from 'vitest';
import { buildLayers } from '../../scripts/tfjs-layers/build.ts';
import { topology } from '../../scripts/tfjs-layers/topology.ts';
import { decodeWeights, weightsManifest } from '../../scripts/tfjs-layers/weights.ts';
import { FileFormatError, GraphError } from '../../src/errors.ts';
import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { identity } from '../../src/graph/ops/index.ts';
import { hostTensor, Session } from '../../src/runtime/session.ts';

type Tfjs = typeof import('@tensorflow/tfjs');
const tf = createRequire(import.meta.url)('@tensorflow/tfjs') as Tfjs;

/** Every kind of layer and padding of the Inception v3 in nsfwjs, on images of 11 x 14. */
async function smallModel() {
  await tf.setBackend('cpu');
  const { layers } = tf;
  let seed = 0;
  const random = () => tf.initializers.randomNormal({ seed: ++seed, stddev: 0.3 });
  const conv = (filters: number, kernel: [number, number], strides: number, padding: 'same' | 'valid') =>
    layers.conv2d({
      filters,
      kernelSize: kernel,
      strides,
      padding,
      useBias: false,
      kernelInitializer: random(),
    });
  const norm = () =>
    layers.batchNormalization({
      scale: false,
      epsilon: 0.001,
      betaInitializer: random(),
      movingMeanInitializer: random(),
      movingVarianceInitializer: tf.initializers.randomUniform({ minval: 0.3, maxval: 2, seed: ++seed }),
    });
  type Symbolic = ReturnType<typeof tf.input>;
  const then = (x: Symbolic, ...chain: { apply(x: Symbolic): unknown }[]) =>
    chain.reduce((value, layer) => layer.apply(value) as Symbolic, x);

  const input = tf.input({ shape: [11, 14, 3] });
  const relu = () => layers.activation({ activation: 'relu' });
  const stem = then(input, conv(5, [3, 2], 2, 'same'), norm(), relu());
  const left = then(stem, conv(4, [1, 3], 1, 'same'), norm(), relu());
  const right = then(
    stem,
    layers.averagePooling2d({ poolSize: 3, strides: 1, padding: 'same' }),
    conv(3, [1, 1], 1, 'valid'),
    norm(),
  );
  const joined = layers.concatenate({ axis: 3 }).apply([left, right]) as Symbolic;
  const output = then(
    joined,
    layers.maxPooling2d({ poolSize: 3, strides: 2, padding: 'valid' }),
    layers.flatten(),
    layers.dense({ units: 6, activation: 'relu', kernelInitializer: random(), biasInitializer: random() }),
    layers.dropout({ rate: 0.5 }),
    layers.dense({ units: 4, activation: 'softmax', kernelInitializer: random() }),
  );
  const model = tf.model({ inputs: input, outputs: output });
  const artifacts = await model.save(
    tf.io.withSaveHandler(async (given) => ({
      modelArtifactsInfo: { dateSaved: new Date(0), modelTopologyType: 'JSON' },
      given,
    })) as never,
  );
  return {
    model,
    artifacts: (artifacts as unknown as { given: import('@tensorflow/tfjs').io.ModelArtifacts }).given,
  };
}

describe('a tfjs layers model as a graph', () => {
  it('gives in every layer what tfjs gives', async () => {
    const { model, artifacts } = await smallModel();
    const layout = topology.parse(artifacts.modelTopology);
    const manifest = weightsManifest.parse([{ weights: artifacts.weightSpecs }]);
    const weights = decodeWeights(manifest, new Uint8Array(artifacts.weightData as ArrayBuffer));
    const graph = new Graph('layers');
    const values = buildLayers(layout, weights, graph.input('images', 'float32', [2, 3, 11, 14]));
    for (const [name, value] of values) graph.output(`out/${name}`, identity(value));
    const pixels = tf.randomNormal([2, 11, 14, 3], 0, 1, 'float32', 5);
    const turned = tf.transpose(pixels, [0, 3, 1, 2]).dataSync() as Float32Array;
    const session = await Session.create(writeOnnx(graph), 'cpu');
    const outputs = await session.run({ images: hostTensor('float32', [2, 3, 11, 14], turned.slice()) });
    await session.release();

    const layers = model.layers.slice(1);
    expect(layers).toHaveLength(15);
    const all = tf.model({ inputs: model.inputs, outputs: layers.map((layer) => layer.output as never) });
    const expected = all.predict(pixels) as import('@tensorflow/tfjs').Tensor[];
    layers.forEach(({ name }, i) => {
      const theirs = expected[i] as import('@tensorflow/tfjs').Tensor;
      const nchw = theirs.rank === 4 ? tf.transpose(theirs, [0, 3, 1, 2]) : theirs;
      const ours = outputs[`out/${name}`];
      expect(ours?.dims, name).toEqual(nchw.shape);
      // Sums of up to 100 products in float32, values of order 1.
      nchw.dataSync().forEach((value, at) => {
        expect(Math.abs(Number(ours?.data[at]) - value), name).toBeLessThan(1e-5);
      });
    });
    const last = model.layers.at(-1)?.name ?? '';
    const softmax = tf.softmax(tf.tensor(outputs[`out/${last}/logits`]?.data as Float32Array, [2, 4]));
    softmax.dataSync().forEach((value, at) => {
      expect(Math.abs(Number(outputs[`out/${last}`]?.data[at]) - value)).toBeLessThan(1e-6);
    });
  });

  it('refuses layers and weights that do not fit', async () => {
    const { artifacts } = await smallModel();
    const layout = topology.parse(artifacts.modelTopology);
    const graph = new Graph('layers');
    const images = graph.input('images', 'float32', [2, 3, 11, 14]);
    expect(() => buildLayers(layout, new Map(), images)).toThrow(GraphError);
    expect(() => buildLayers(layout, new Map(), images)).toThrow(/kernel' should be \[3, 2, 3, 5\], but is missing/);
    const odd = {
      class_name: 'Model',
      config: { layers: [{ class_name: 'Lambda', config: {} }], output_layers: [] },
    };
    expect(topology.safeParse(odd).success).toBe(false);
  });
});

describe('quantised weights', () => {
  const manifest = [
    {
      weights: [
        { name: 'a', shape: [3], dtype: 'float32', quantization: { dtype: 'uint8', min: -1, scale: 0.5 } },
        {
          name: 'b',
          shape: [1, 2],
          dtype: 'float32',
          quantization: { dtype: 'uint16', min: 2, scale: 0.25 },
        },
        { name: 'c', shape: [1], dtype: 'float32' },
      ],
    },
  ];
  const bytes = Uint8Array.of(0, 2, 255, 1, 0, 0, 1, 0, 0, 0x80, 0x3f);

  it('are decoded as tfjs decodes them', () => {
    const decoded = decodeWeights(weightsManifest.parse(manifest), bytes);
    const theirs = tf.io.decodeWeights(bytes.buffer, manifest[0]?.weights as never);
    for (const [name, { shape, data }] of decoded) {
      expect(shape).toEqual(theirs[name]?.shape);
      expect([...data]).toEqual([...(theirs[name]?.dataSync() ?? [])]);
    }
    expect([...(decoded.get('a')?.data ?? [])]).toEqual([-1, 0, 126.5]);
  });

  it.each([bytes.subarray(1), Uint8Array.of(...bytes, 0)])('that are cut or too long are refused', (wrong) => {
    expect(() => decodeWeights(weightsManifest.parse(manifest), wrong)).toThrow(FileFormatError);
  });
});
