// What is run: sets, weights, seeds and settings.
import { InvalidArgumentError } from '../../src/errors.ts';
import { type UNet2DOptions, unet2DPreset } from '../../src/models/index.ts';
import * as z from '../../src/zod.ts';

/** The first is DDPM. */
export const LAMBDAS = [0, 0.05, 0.1];
export const SEEDS = 3;
/** What a CPU trains in hours. `emoji-24` is for a GPU, and `digits` for a trial without the network. */
export const DEFAULT_SETS = ['mnist-10k', 'emoji'];

/** One set of the study. */
export interface StudySet {
  readonly name: string;
  /** For `loadImages`. */
  readonly source: string;
  readonly title: string;
  readonly resolution: number;
  readonly channels: 1 | 3;
  /** What its images are measured by. */
  readonly extractor: 'digit-features' | 'nsfwjs-inception-v3' | 'raw-pixels';
  /** What a reader should know of its pictures. */
  readonly remark?: string;
  /** How its models are trained and drawn from, where that differs from `FULL`. */
  readonly settings?: Partial<StudySettings>;
}

export const SETS: readonly StudySet[] = [
  {
    name: 'mnist-10k',
    source: 'mnist-10k',
    title: 'MNIST digits',
    resolution: 16,
    channels: 1,
    extractor: 'digit-features',
  },
  {
    name: 'emoji',
    source: 'emoji',
    title: 'Emoji, 16x16',
    resolution: 16,
    channels: 3,
    extractor: 'nsfwjs-inception-v3',
    remark:
      'These models are small and were trained for about ten minutes of one core each. They draw colours and rough shapes, not emoji that a person could name.',
    // Nine models of this size take an hour and a half on two cores.
    settings: { model: 'half', steps: 1500, batch_size: 64, samples: 1000 },
  },
  {
    name: 'emoji-24',
    source: 'emoji',
    title: 'Emoji, 24x24',
    resolution: 24,
    channels: 3,
    extractor: 'nsfwjs-inception-v3',
  },
  {
    name: 'digits',
    source: 'digits',
    title: '8x8 digits',
    resolution: 8,
    channels: 1,
    extractor: 'raw-pixels',
    settings: { samples: 1000 },
  },
];

/** @throws {InvalidArgumentError} when there is no such set. */
export function setOf(name: string): StudySet {
  const set = SETS.find((one) => one.name === name);
  if (!set) throw new InvalidArgumentError(`--set is '${name}': use ${SETS.map((one) => one.name).join(', ')}`);
  return set;
}

const count = z.int().check(z.gte(1));
export const settingsSchema = z.strictObject({
  model: z.enum(['study', 'half', 'tiny']),
  steps: count,
  batch_size: count,
  learning_rate: z.number().check(z.positive()),
  warmup_steps: count,
  /** Drawn from each model. */
  samples: count,
  num_inference_steps: count,
});
/** What all cells of a set have in common. */
export type StudySettings = z.output<typeof settingsSchema>;

export const FULL: StudySettings = {
  model: 'study',
  steps: 2000,
  batch_size: 128,
  learning_rate: 1e-3,
  warmup_steps: 100,
  samples: 2000,
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
  half: unet2DPreset('small', { ...LEVELS, block_out_channels: [32, 64] }),
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
/** The step and each value of the log, averaged over the steps since the entry before. */
export const curveSchema = z.catchall(z.object({ step: z.array(z.int()) }), z.array(finite));
export const environmentSchema = z.strictObject({
  package_version: z.string(),
  node: z.string(),
  platform: z.string(),
  cpu: z.string(),
  device: z.string(),
  /** The name of the GPU, else null. */
  card: z.nullable(z.string()),
});
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
  curve: curveSchema,
  environment: environmentSchema,
});
export type CellRecord = z.output<typeof cellRecordSchema>;

export const CELL_FILE = 'cell.json';
/** Bytes, [count, height, width, channels]. */
export const SAMPLES_FILE = 'samples.u8';
