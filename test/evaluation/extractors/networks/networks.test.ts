import { describe, expect, it } from 'vitest';
import { imageTensor } from '../../../../src/evaluation/extractors/image-tensor.ts';
import {
  type FeatureNetwork,
  featureGraph,
  parameterShapes,
} from '../../../../src/evaluation/extractors/networks/feature-network.ts';
import { inceptionV3 } from '../../../../src/evaluation/extractors/networks/inception-v3.ts';
import { vgg16 } from '../../../../src/evaluation/extractors/networks/vgg16.ts';
import { writeOnnx } from '../../../../src/graph/onnx/write.ts';
import { hostTensor, Session } from '../../../../src/runtime/session.ts';
import {
  expectLayer,
  imagesByRule,
  type LayerSummary,
  readReference,
  readStateDicts,
  weightsByRule,
} from './reference.ts';

/** At full width, VGG16 needs 2 GB and half a minute: `npm run test:slow`. */
const widths = process.env.MODE === 'slow' ? [16, 1] : [16];
const networks = [
  { name: 'inception' as const, make: inceptionV3 },
  { name: 'vgg16' as const, make: vgg16 },
];

describe.each(networks)('$name', ({ name, make }) => {
  it('has the tensors of the published state dict', () => {
    const published = Object.entries(readStateDicts()[name]);
    const network = make();
    const used = published.filter(([key]) => !network.unused.test(key));
    expect(Object.fromEntries(parameterShapes(network))).toEqual(Object.fromEntries(used));
  });

  it.each(widths)(
    'gives in every layer what torch gives, channels / %i',
    async (narrow) => {
      const reference = readReference(`${name}-${narrow}`);
      const layers = Object.keys(reference.layers);
      const network = make({ narrow });
      expect(layers).toEqual(expect.arrayContaining([...network.features]));
      const shapes = parameterShapes(network);
      const graph = featureGraph(network, (key) => weightsByRule(key, shapes.get(key) ?? []), layers);
      const outputs = await run(writeOnnx(graph), network, reference.images);
      for (const layer of layers) {
        const { data, dims } = outputs[layer] ?? { data: new Float32Array(), dims: [] };
        // float32 twice, in other orders: sums of up to 25,000 products, and up to 50 layers one after another. The
        // largest seen is 1e-5; a wrong pool, pad or epsilon changes a layer by more than 1e-3.
        expectLayer(layer, data as Float32Array, dims, reference.layers[layer] as LayerSummary, 1e-4);
      }
    },
    600_000,
  );
});

async function run(
  model: Uint8Array,
  { imageSize }: FeatureNetwork,
  images: { count: number; height: number; width: number },
) {
  const pixels = imageTensor(imagesByRule(images), {
    height: imageSize,
    width: imageSize,
    layout: 'NCHW',
    mean: [0.5, 0.5, 0.5],
    std: [0.5, 0.5, 0.5],
  });
  const session = await Session.create(model, 'cpu');
  try {
    const shape = [images.count, 3, imageSize, imageSize];
    return await session.run({ images: hostTensor('float32', shape, pixels) });
  } finally {
    await session.release();
  }
}
