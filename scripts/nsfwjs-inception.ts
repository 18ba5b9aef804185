/**
 * Converts the Inception v3 inside the npm package nsfwjs 4.3.0 (MIT, weights quantised to 8 bits) to an ONNX feature
 * extractor: real learned features of images without a download from anywhere but npm. They are NOT the features of
 * the FID: figures compare among themselves only.
 *
 *     npx tsx scripts/nsfwjs-inception.ts [--output file.onnx] [--tarball nsfwjs-4.3.0.tgz]
 *     iso-diffusion evaluate --extractor nsfwjs-inception-v3 ...
 *
 * Outputs: `2048`, the pooled features; `logits` of nsfwjs's 5 classes; `probabilities`.
 */
import { createHash } from 'node:crypto';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { extractorsFolder, NSFWJS_EXTRACTOR } from '../src/evaluation/extractors/published-extractors.ts';
import { writeFileAtomic } from '../src/files/atomic.ts';
import { Graph } from '../src/graph/graph.ts';
import { writeOnnx } from '../src/graph/onnx/write.ts';
import { add, mul } from '../src/graph/ops/index.ts';
import { scalarLike } from '../src/graph/registry.ts';
import { buildLayers } from './tfjs-layers/build.ts';
import { type NsfwjsModel, readNsfwjsInception } from './tfjs-layers/nsfwjs.ts';
import { topology } from './tfjs-layers/topology.ts';
import { decodeWeights, weightsManifest } from './tfjs-layers/weights.ts';

/** The model as a graph: input `images` float32 ['batch_size', 3, 299, 299], RGB in [-1, 1]. */
export function nsfwjsGraph(model: NsfwjsModel): Graph {
  const layers = topology.parse(model.modelTopology);
  const weights = decodeWeights(weightsManifest.parse(model.weightsManifest), model.weightData);
  const graph = new Graph(NSFWJS_EXTRACTOR);
  const images = graph.input('images', 'float32', ['batch_size', 3, 299, 299]);
  // nsfwjs divides pixels by 255.
  const half = scalarLike(images, 0.5);
  const values = buildLayers(layers, weights, add(mul(images, half), half));
  const [[last]] = layers.output_layers as [[string, 0, 0]];
  const outputs = { '2048': 'flatten_1', logits: `${last}/logits`, probabilities: last };
  for (const [name, layer] of Object.entries(outputs)) {
    const value = values.get(layer);
    if (!value) throw new Error(`the model has no layer ${layer}`);
    graph.output(name, value);
  }
  return graph;
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { output: { type: 'string' }, tarball: { type: 'string' } } });
  const output = values.output ?? path.join(extractorsFolder(), `${NSFWJS_EXTRACTOR}.onnx`);
  const bytes = writeOnnx(nsfwjsGraph(await readNsfwjsInception(values.tarball)));
  await writeFileAtomic(output, bytes);
  console.log(`written: ${output}`);
  console.log(`sha256:  ${createHash('sha256').update(bytes).digest('hex')}`);
  console.log(`use it:  iso-diffusion evaluate --extractor ${values.output ?? NSFWJS_EXTRACTOR} ...`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
