import { createHash } from 'node:crypto';
import path from 'node:path';
import { ExtractorWeightsError } from '../../errors.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import { readSafetensors, readSafetensorsHeader } from '../../files/safetensors.ts';
import type { SafetensorsHeader } from '../../files/safetensors-header.ts';
import { writeOnnx } from '../../graph/onnx/write.ts';
import { type FeatureNetwork, featureGraph, parameterShapes } from './networks/feature-network.ts';
import { inceptionV3 } from './networks/inception-v3.ts';
import { vgg16 } from './networks/vgg16.ts';
import { conversionAdvice, extractorsFolder } from './published-extractors.ts';

export interface ConvertedExtractor {
  /** `inception` or `vgg16`, told by the names of the tensors. */
  readonly network: string;
  /** The outputs of the model, (n, dims) each. */
  readonly layers: readonly string[];
  /** Path of the ONNX file. */
  readonly output: string;
  /** SHA-256 in hex of the ONNX file: equal weights give equal files. */
  readonly checksum: string;
}

const NETWORKS: readonly FeatureNetwork[] = [inceptionV3(), vgg16()];
/** Of names in an error. */
const LISTED = 12;

/**
 * Converts the weights that pytorch-fid and torchvision publish (Inception v3 of the FID, VGG16), as safetensors, to an
 * ONNX model whose outputs are the feature layers.
 *
 * Its input `images` is float32 ['batch_size', 3, side, side], RGB in [-1, 1].
 *
 * @param weights path of a .safetensors file.
 * @param output path of the .onnx file, written at once when all is well; default `inception.onnx` or `vgg16.onnx` in
 * `extractorsFolder()`, where `resolveExtractor` finds it.
 * @throws {ExtractorWeightsError} for a pickle, or when tensors are missing, unknown, or of another shape or dtype; the
 * message lists them.
 * @throws {SafetensorsError} when the file is missing, truncated or malformed.
 *
 * @example
 * await convertExtractor('pt_inception-2015-12-05-6726825d.safetensors');
 * const inception = await resolveExtractor('inception');
 */
export async function convertExtractor(weights: string, output?: string): Promise<ConvertedExtractor> {
  const { network, bytes } = await convertedExtractor(weights);
  const target = output ?? path.join(extractorsFolder(), `${network.name}.onnx`);
  await writeFileAtomic(target, bytes);
  return {
    network: network.name,
    layers: network.features,
    output: target,
    checksum: createHash('sha256').update(bytes).digest('hex'),
  };
}

/** The ONNX model of `convertExtractor` in memory. */
export async function convertedExtractor(
  weights: string,
  networks: readonly FeatureNetwork[] = NETWORKS,
): Promise<{ network: FeatureNetwork; bytes: Uint8Array }> {
  refusePickle(weights);
  const { entries } = await readSafetensorsHeader(weights);
  const network = networkOf(entries, networks, weights);
  const shapes = parameterShapes(network);
  checkTensors(network, shapes, entries, weights);
  const tensors = await readSafetensors(weights, { names: [...shapes.keys()] });
  const graph = featureGraph(network, (name) => {
    const data = tensors.get(name)?.data;
    // Each tensor is held by the graph alone from here on.
    tensors.delete(name);
    return data instanceof Float32Array ? data : new Float32Array();
  });
  return { network, bytes: writeOnnx(graph, { network: network.name }) };
}

/** @throws {ExtractorWeightsError} with the advice how to convert it, told by the name. */
export function refusePickle(weights: string): void {
  if (!/\.(pth|pt|bin|pkl|ckpt)$/i.test(weights)) return;
  const { base, name } = path.parse(weights);
  throw new ExtractorWeightsError(
    `${weights} is a pickle, which can run any code when it is read. ${conversionAdvice(base, `${name}.safetensors`)}`,
  );
}

function networkOf(
  entries: SafetensorsHeader['entries'],
  networks: readonly FeatureNetwork[],
  weights: string,
): FeatureNetwork {
  const names = new Set(entries.map(({ name }) => name));
  const network = networks.find(({ landmark }) => names.has(landmark));
  if (network) return network;
  const landmarks = networks.map(({ name, landmark }) => `${landmark} of ${name}`).join(', nor ');
  throw new ExtractorWeightsError(
    `${weights} is of no extractor that can be converted: it has neither ${landmarks}, but ${listed([...names])}`,
  );
}

function checkTensors(
  network: FeatureNetwork,
  shapes: ReadonlyMap<string, readonly number[]>,
  entries: SafetensorsHeader['entries'],
  weights: string,
): void {
  const given = new Map(entries.map((entry) => [entry.name, entry]));
  const missing = [...shapes.keys()].filter((name) => !given.has(name));
  const unknown = [...given.keys()].filter((name) => !shapes.has(name) && !network.unused.test(name));
  const wrong = [...shapes].flatMap(([name, shape]) => {
    const entry = given.get(name);
    if (!entry || (entry.dtype === 'F32' && entry.shape.join() === shape.join())) return [];
    return [`${name} is ${entry.dtype} [${entry.shape.join(', ')}], not F32 [${shape.join(', ')}]`];
  });
  const complaints = [
    ...(missing.length > 0 ? [`${missing.length} missing: ${listed(missing)}`] : []),
    ...(unknown.length > 0 ? [`${unknown.length} unknown: ${listed(unknown)}`] : []),
    ...(wrong.length > 0 ? [`${wrong.length} of another shape or dtype: ${listed(wrong)}`] : []),
  ];
  if (complaints.length === 0) return;
  throw new ExtractorWeightsError(
    `the tensors of ${weights} are not those of ${network.name}: ${complaints.join('; ')}`,
  );
}

function listed(names: readonly string[]): string {
  const rest = names.length - LISTED;
  return names.slice(0, LISTED).join(', ') + (rest > 0 ? ` and ${rest} more` : '');
}
