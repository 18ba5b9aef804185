/**
 * The extractors of the literature, whose weights others publish as pickles: where they are looked for, and how their
 * safetensors become an ONNX model.
 */

import { createHash } from 'node:crypto';
import { homedir } from 'node:os';
import path from 'node:path';
import { ExtractorNotFoundError, ExtractorWeightsError } from '../../errors.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import { isFile } from '../../files/regular-file.ts';
import type { SafetensorsHeader } from '../../files/safetensors.ts';
import { readSafetensors, readSafetensorsHeader } from '../../files/safetensors.ts';
import { writeOnnx } from '../../graph/onnx/write.ts';
import { type FeatureNetwork, featureGraph, parameterShapes } from './networks/feature-network.ts';
import { inceptionV3 } from './networks/inception-v3.ts';
import { vgg16 } from './networks/vgg16.ts';

/** An extractor whose weights others publish, and the names under which they are looked for. */
interface PublishedExtractor {
  /** The ONNX file that `convert-extractor` writes. */
  readonly onnx: string;
  /** The published weights after conversion to safetensors. */
  readonly safetensors: readonly string[];
  /** The published file, a pickle. */
  readonly pickle: string;
  readonly url: string;
  /** Mean and std of every channel in torch-fidelity, in units where white is 1. */
  readonly torchFidelityScale: number;
}

export const PUBLISHED_EXTRACTORS = {
  inception: {
    onnx: 'inception.onnx',
    safetensors: ['pt_inception-2015-12-05-6726825d.safetensors', 'weights-inception-2015-12-05-6726825d.safetensors'],
    pickle: 'pt_inception-2015-12-05-6726825d.pth',
    url: 'https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth',
    torchFidelityScale: 128 / 255,
  },
  vgg16: {
    onnx: 'vgg16.onnx',
    safetensors: ['vgg16-397923af.safetensors'],
    pickle: 'vgg16-397923af.pth',
    url: 'https://download.pytorch.org/models/vgg16-397923af.pth',
    torchFidelityScale: 0.5,
  },
} as const satisfies Record<string, PublishedExtractor>;

export type PublishedExtractorName = keyof typeof PUBLISHED_EXTRACTORS;

/** The model that scripts/nsfwjs-inception.ts makes. */
export const NSFWJS_EXTRACTOR = 'nsfwjs-inception-v3';

/** The environment's ISO_DIFFUSION_EXTRACTORS, or `$XDG_CACHE_HOME/iso-diffusion/extractors`, or that in `~/.cache`. */
export function extractorsFolder(): string {
  const cache = process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache');
  return process.env.ISO_DIFFUSION_EXTRACTORS || path.join(cache, 'iso-diffusion', 'extractors');
}

/**
 * The file of a published extractor's weights: the ONNX file, else the safetensors.
 * @throws {ExtractorNotFoundError} that says what to fetch from where, and where to put it.
 */
export async function findPublishedExtractor(name: PublishedExtractorName, folder: string): Promise<string> {
  const { onnx, safetensors, pickle, url } = PUBLISHED_EXTRACTORS[name];
  for (const file of [onnx, ...safetensors]) {
    const candidate = path.join(folder, file);
    if (await isFile(candidate)) return candidate;
  }
  const [weights] = safetensors;
  const fetchIt = (await isFile(path.join(folder, pickle)))
    ? `${path.join(folder, pickle)} is a pickle, which can run any code when it is read.`
    : `Fetch ${url}.`;
  throw new ExtractorNotFoundError(
    `no weights of the extractor '${name}' in ${folder} (looked for ${[onnx, ...safetensors].join(', ')}). ${fetchIt} ${conversionAdvice(pickle, weights)} and put ${weights} into ${folder}, or set ISO_DIFFUSION_EXTRACTORS to the folder that holds it. Or give an ONNX file: --extractor path/to/file.onnx:OUTPUT. 'raw-pixels' needs no weights.`,
  );
}

/** How to turn the weights into safetensors, which cannot run code. */
function conversionAdvice(pickle: string, safetensors: string): string {
  return `Convert it once in Python: import torch; from safetensors.torch import save_file; save_file({k: v.contiguous() for k, v in torch.load('${pickle}', map_location='cpu', weights_only=True).items()}, '${safetensors}')`;
}

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

const NETWORKS: readonly FeatureNetwork[] = [inceptionV3(), vgg16()];
/** Most names that an error lists. */
const LISTED = 12;

/**
 * Converts the weights that pytorch-fid and torchvision publish (Inception v3 of the FID, VGG16), as safetensors, to an
 * ONNX model whose outputs are the feature layers.
 *
 * Its input `images` is float32 ['batch_size', 3, side, side], RGB in [-1, 1].
 *
 * @param weights path of a .safetensors file.
 * @param output path of the .onnx file, written in one piece; default `inception.onnx` or `vgg16.onnx` in
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

/** @throws {ExtractorWeightsError} for the name of a pickle, with advice how to convert it. */
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
    `${weights} does not hold the weights of an extractor that can be converted: it has neither ${landmarks}, but ${listed([...names])}`,
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
