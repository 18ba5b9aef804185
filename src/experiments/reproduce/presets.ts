import type { ImageSettings, NamedImageSet, PointSettings } from '../jobs/job.ts';

export const PRESETS = ['paper', 'smoke'] as const;
export type Preset = (typeof PRESETS)[number];

interface PresetSettings {
  readonly runs: number;
  /** Whether reports compare the effects with the paper's. */
  readonly verdicts: boolean;
  readonly points: Omit<PointSettings, 'device'>;
  readonly images: Omit<ImageSettings, 'device' | 'logits_extractor'>;
  readonly imageSets: readonly NamedImageSet[];
}

const common = { num_train_timesteps: 1000, nearest_k: 5 } as const;

/**
 * `paper`: the paper's settings; where it gives none, those of the first author's public 2-D code. The batch of 512 points
 * is our choice. `smoke`: the same path in a minute or two on two cores; its figures mean nothing.
 */
export const PRESET_SETTINGS: Readonly<Record<Preset, PresetSettings>> = {
  paper: {
    runs: 3,
    verdicts: true,
    points: {
      ...common,
      points: 10_000,
      epochs: 1000,
      batch_size: 512,
      learning_rate: 1e-3,
      hidden_features: 128,
      num_inference_steps: 1000,
    },
    images: {
      ...common,
      resolution: 64,
      model: 'ddpm-64',
      epochs: 1000,
      batch_size: 64,
      learning_rate: 2e-4,
      random_flip: true,
      num_inference_steps: 1000,
      samples: null,
      extractor: 'inception',
      is_splits: 10,
    },
    imageSets: [
      { name: 'oxford-flowers-102', source: 'oxford-flowers-102', data_dir: null },
      { name: 'oxford-iiit-pet', source: 'oxford-iiit-pet', data_dir: null },
    ],
  },
  smoke: {
    runs: 2,
    verdicts: false,
    points: {
      ...common,
      points: 1000,
      epochs: 100,
      batch_size: 128,
      learning_rate: 1e-3,
      hidden_features: 128,
      num_inference_steps: 100,
    },
    images: {
      ...common,
      resolution: 8,
      model: 'tiny',
      epochs: 6,
      batch_size: 32,
      learning_rate: 1e-3,
      random_flip: false,
      num_inference_steps: 50,
      samples: 128,
      extractor: 'raw-pixels',
      is_splits: 10,
    },
    imageSets: [{ name: 'digits', source: 'digits', data_dir: null }],
  },
};
