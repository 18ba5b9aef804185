import { createHash } from '#platform/hash';
import * as path from '#platform/path';
import { ExtractorWeightsError } from '../../errors.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import { type NamedTensor, readSafetensors, readSafetensorsHeader } from '../../files/safetensors.ts';
import { readTorchStateDict } from '../../files/torch/file.ts';
import type { TorchTensor } from '../../files/torch/tensor.ts';
import { writeOnnx } from '../../graph/onnx/write.ts';
import { type FeatureNetwork, featureGraph, parameterShapes } from './networks/feature-network.ts';
import { extractorsFolder, PUBLISHED_EXTRACTORS } from './published-extractors.ts';

/** What `convertExtractor` made. */
export interface ConvertedExtractor {
  /** `inception` or `vgg16`, recognised by the names of the tensors. */
  readonly network: string;
  /** The outputs of the model, (n, dims) each. */
  readonly layers: readonly string[];
  /** Path of the ONNX file. */
  readonly output: string;
  /** SHA-256 in hex of the ONNX file: equal weights give equal files. */
  readonly checksum: string;
}

/** Most names that an error lists. */
const LISTED = 12;

/**
 * Converts the weights that pytorch-fid and torchvision publish (Inception v3 of the FID, VGG16) to an ONNX model whose
 * outputs are the feature layers.
 *
 * Its input `images` is float32 ['batch_size', 3, side, side], RGB in [-1, 1].
 *
 * @param weights path of the published .pth file, or of its tensors in a .safetensors file. Nothing of it is executed.
 * @param output path of the .onnx file, written in one piece; default `inception.onnx` or `vgg16.onnx` in
 * `extractorsFolder()`, where `resolveExtractor` finds it.
 * @throws {ExtractorWeightsError} when tensors are missing, unknown, or of another shape or dtype; the message lists them.
 * @throws {TorchFileError} or {SafetensorsError} when the file is missing, truncated or malformed.
 *
 * @example
 * await convertExtractor('pt_inception-2015-12-05-6726825d.pth');
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
  networks: readonly FeatureNetwork[] = Object.values(PUBLISHED_EXTRACTORS).map(({ network }) => network),
): Promise<{ network: FeatureNetwork; bytes: Uint8Array }> {
  const { entries, open } = await weightsFile(weights);
  const network = networkOf([...entries.keys()], networks, weights);
  const shapes = parameterShapes(network);
  checkTensors(network, shapes, entries, weights);
  const tensors = await open([...shapes.keys()]);
  const graph = featureGraph(network, (name) => {
    const data = tensors.get(name)?.read();
    // Each tensor is held by the graph alone from here on.
    tensors.delete(name);
    return data instanceof Float32Array ? data : new Float32Array();
  });
  return { network, bytes: writeOnnx(graph, { network: network.name }) };
}

type Entry = Pick<TorchTensor, 'dtype' | 'shape'>;

/** The tensors of a file of weights. */
interface WeightsFile {
  readonly entries: ReadonlyMap<string, Entry>;
  /** The tensors of these names; a file of torch gives all that it holds. */
  open(names: readonly string[]): Promise<Map<string, { read(): NamedTensor['data'] }>>;
}

/** Whether a file's name is one that torch gives to its weights. */
export function isTorchFileName(file: string): boolean {
  return /\.(pth|pt|bin|pkl|ckpt)$/i.test(file);
}

/** Opens the weights in a .safetensors file, or in one of torch. */
export async function weightsFile(weights: string): Promise<WeightsFile> {
  if (isTorchFileName(weights)) {
    const tensors = await readTorchStateDict(weights);
    return { entries: tensors, open: async () => tensors };
  }
  const { entries } = await readSafetensorsHeader(weights);
  return {
    entries: new Map(entries.map((entry) => [entry.name, entry])),
    async open(names) {
      const tensors = await readSafetensors(weights, { names });
      return new Map([...tensors].map(([name, { data }]) => [name, { read: () => data }]));
    },
  };
}

function networkOf(names: readonly string[], networks: readonly FeatureNetwork[], weights: string): FeatureNetwork {
  const network = networks.find(({ landmark }) => names.includes(landmark));
  if (network) return network;
  const landmarks = networks.map(({ name, landmark }) => `${landmark} of ${name}`).join(', nor ');
  throw new ExtractorWeightsError(
    `${weights} does not hold the weights of an extractor that can be converted: it has neither ${landmarks}, but ${listed(names)}`,
  );
}

/** @throws {ExtractorWeightsError} when tensors are missing, unknown, or of another shape or dtype. */
export function checkTensors(
  network: Pick<FeatureNetwork, 'name' | 'unused'>,
  shapes: ReadonlyMap<string, readonly number[]>,
  given: ReadonlyMap<string, Entry>,
  weights: string,
): void {
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
