import { homedir } from 'node:os';
import path from 'node:path';
import { ExtractorNotFoundError } from '../../errors.ts';
import { isFile } from '../../files/regular-file.ts';

/** An extractor whose weights others publish, and the names under which they are looked for. */
export interface PublishedExtractor {
  /** The ONNX file that `convert-extractor` writes. */
  readonly onnx: string;
  /** The published weights once they are safetensors. */
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
    safetensors: [
      'pt_inception-2015-12-05-6726825d.safetensors',
      'weights-inception-2015-12-05-6726825d.safetensors',
    ],
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

export function isPublishedExtractor(name: string): name is PublishedExtractorName {
  return Object.hasOwn(PUBLISHED_EXTRACTORS, name);
}

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
export function conversionAdvice(pickle: string, safetensors: string): string {
  return `Convert it once in Python: import torch; from safetensors.torch import save_file; save_file({k: v.contiguous() for k, v in torch.load('${pickle}', map_location='cpu', weights_only=True).items()}, '${safetensors}')`;
}
