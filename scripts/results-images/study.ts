// What is run: sets, weights, seeds and settings.
import { type UNet2DOptions, unet2DPreset } from '../../src/models/index.ts';
import * as z from '../../src/zod.ts';

/** The first is DDPM. */
export const LAMBDAS = [0, 0.05, 0.1];
/** Those of the whole study. `digits` is for a trial without the network. */
export const DEFAULT_SETS = ['mnist-10k', 'emoji'];

/** One set of the study. */
export interface StudySet {
  /** For `loadImages`. */
  readonly name: string;
  readonly title: string;
  readonly resolution: number;
  readonly channels: 1 | 3;
  /** What its images are measured by. */
  readonly extractor: 'digit-features' | 'nsfwjs-inception-v3' | 'raw-pixels';
  /** Drawn from each model. */
  readonly samples: number;
}

export const SETS: readonly StudySet[] = [
  { name: 'mnist-10k', title: 'MNIST digits', resolution: 16, channels: 1, extractor: 'digit-features', samples: 2000 },
  { name: 'emoji', title: 'Emoji', resolution: 24, channels: 3, extractor: 'nsfwjs-inception-v3', samples: 2000 },
  { name: 'digits', title: '8x8 digits', resolution: 8, channels: 1, extractor: 'raw-pixels', samples: 1000 },
];

const count = z.int().check(z.gte(1));
const settingsSchema = z.strictObject({
  model: z.enum(['study', 'tiny']),
  steps: count,
  batch_size: count,
  learning_rate: z.number().check(z.positive()),
  warmup_steps: count,
  /** Drawn from each model; null: as the set says. */
  samples: z.nullable(count),
  num_inference_steps: count,
});
/** What all cells of a study have in common. */
export type StudySettings = z.output<typeof settingsSchema>;

export const FULL: StudySettings = {
  model: 'study',
  steps: 2000,
  batch_size: 128,
  learning_rate: 1e-3,
  warmup_steps: 100,
  samples: null,
  num_inference_steps: 50,
};
/** A trial of the machinery. Its figures mean nothing. */
export const QUICK: StudySettings = {
  ...FULL,
  model: 'tiny',
  steps: 30,
  batch_size: 16,
  warmup_steps: 1,
  samples: 64,
  num_inference_steps: 4,
};

/** Two levels, attention at half the resolution. */
const LEVELS = {
  down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
  up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
} satisfies UNet2DOptions;
export const MODELS: Readonly<Record<StudySettings['model'], UNet2DOptions>> = {
  study: unet2DPreset('small', { ...LEVELS, block_out_channels: [64, 128] }),
  tiny: unet2DPreset('small', { ...LEVELS, block_out_channels: [8, 16], norm_num_groups: 4 }),
};

/** One training run, with its samples. */
export interface Cell {
  readonly set: string;
  readonly lambda: number;
  readonly seed: number;
}

/** All cells. Those of a seed come together: a stopped study has whole pairs. */
export function studyCells(sets: readonly string[], seeds: number): Cell[] {
  return Array.from({ length: seeds }, (_, seed) => seed).flatMap((seed) =>
    sets.flatMap((set) => LAMBDAS.map((lambda) => ({ set, lambda, seed }))),
  );
}

/** The name of a cell's folder. */
export function cellName({ set, lambda, seed }: Cell): string {
  return `${set}-lambda-${lambda}-seed-${seed}`;
}

const finite = z.number().check(z.refine(Number.isFinite));
/** What `cell.json` holds: everything of a finished cell but its samples and its time. */
export const cellRecordSchema = z.strictObject({
  cell: z.strictObject({ set: z.string(), lambda: finite, seed: z.int() }),
  settings: settingsSchema,
  /** Of the images that it was trained on. */
  fingerprint: z.string(),
  parameters: count,
  samples: z.strictObject({ count, height: count, width: count, channels: z.union([z.literal(1), z.literal(3)]) }),
  /** Mean squared predicted noise per element of the averaged weights, on noise that the training has not seen. */
  isotropy: finite,
  curve: z.catchall(z.object({ step: z.array(z.int()) }), z.array(finite)),
  environment: z.strictObject({
    package_version: z.string(),
    node: z.string(),
    platform: z.string(),
    cpu: z.string(),
    device: z.string(),
    /** The name of the GPU, else null. */
    card: z.nullable(z.string()),
  }),
});
export type CellRecord = z.output<typeof cellRecordSchema>;

export const CELL_FILE = 'cell.json';
/** Bytes, [count, height, width, channels]. */
export const SAMPLES_FILE = 'samples.u8';
