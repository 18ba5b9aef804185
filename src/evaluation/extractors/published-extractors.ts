import { defaultCacheDir } from '#files/download';
import { join } from '#platform/path';
import { environmentVariable } from '#platform/system';
import type { FeatureNetwork } from './networks/feature-network.ts';
import { inceptionV3 } from './networks/inception-v3.ts';
import { vgg16 } from './networks/vgg16.ts';

/** An extractor of the literature, whose weights others publish. */
export interface PublishedExtractor {
  readonly network: FeatureNetwork;
  /** Where the weights are published. The first 8 digits of the SHA-256 are in the file's name, as torch.hub has it. */
  readonly url: string;
  readonly bytes: number;
  readonly sha256: string;
  /** Other names under which the weights are known. */
  readonly aliases: readonly string[];
  /** Mean and std of every channel in torch-fidelity, in units where white is 1. */
  readonly torchFidelityScale: number;
}

export type PublishedExtractorName = 'inception' | 'vgg16';

export const PUBLISHED_EXTRACTORS: Readonly<Record<PublishedExtractorName, PublishedExtractor>> = {
  inception: {
    network: inceptionV3(),
    url: 'https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth',
    bytes: 95_628_359,
    sha256: '6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2',
    // torch-fidelity publishes the same file.
    aliases: ['weights-inception-2015-12-05-6726825d'],
    torchFidelityScale: 128 / 255,
  },
  vgg16: {
    network: vgg16(),
    url: 'https://download.pytorch.org/models/vgg16-397923af.pth',
    bytes: 553_433_881,
    sha256: '397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0',
    aliases: [],
    torchFidelityScale: 0.5,
  },
};

/** The model that scripts/nsfwjs-inception.ts makes. */
export const NSFWJS_EXTRACTOR = 'nsfwjs-inception-v3';

/**
 * The environment's ISO_DIFFUSION_EXTRACTORS, or `$XDG_CACHE_HOME/iso-diffusion/extractors`, or that in `~/.cache`. In a
 * browser `/cache/extractors` in the page's store.
 */
export function extractorsFolder(): string {
  return environmentVariable('ISO_DIFFUSION_EXTRACTORS') || join(defaultCacheDir(), 'extractors');
}
