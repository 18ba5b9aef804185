import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ConditionalDense, initialParameters, UNet2DModel } from '../src/models/index.ts';
import { pipeline } from '../src/pipelines/index.ts';
import { DDPMScheduler } from '../src/schedulers/index.ts';
import { saveTrainedPipeline } from '../src/trainers/save-pipeline.ts';
import { type Measurement, measure, printRatio, runPairs } from './harness.ts';

const PAIRS = 15;
const scaling = { iso_lambda: 0.1, isotropy: 0.84 };

/**
 * What `iso_lambda` costs: calls with it against plain calls of the same pipeline, one after the other. Points run inside one
 * graph, images step by step. The last line is that of images.
 */
export async function run(): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), 'iso-noise-scale-'));
  try {
    await comparePoints(path.join(folder, 'points'));
    await compareImages(path.join(folder, 'images'));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function comparePoints(folder: string): Promise<void> {
  const model = new ConditionalDense();
  await saveTrainedPipeline(folder, {
    model,
    weights: initialParameters(model, 0),
    scheduler: new DDPMScheduler({ clip_sample: false }),
    points: { scaler: { kind: 'none', offset: [0, 0], scale: [1, 1] } },
  });
  const generate = await pipeline('unconditional-point-generation', folder, { device: 'cpu' });
  const draw = (options: Partial<typeof scaling>) =>
    generate({ batch_size: 10_000, num_inference_steps: 200, seed: 0, ...options });
  await compare('noise-scale points', draw);
  await generate.dispose();
}

async function compareImages(folder: string): Promise<void> {
  const model = new UNet2DModel({
    sample_size: 16,
    in_channels: 3,
    out_channels: 3,
    block_out_channels: [32, 64],
    down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
    up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
  });
  await saveTrainedPipeline(folder, {
    model,
    weights: initialParameters(model, 0),
    scheduler: new DDPMScheduler(),
  });
  const generate = await pipeline('unconditional-image-generation', folder, { device: 'cpu' });
  const draw = (options: Partial<typeof scaling>) =>
    generate({ batch_size: 8, num_inference_steps: 10, seed: 0, ...options });
  await compare('noise-scale images', draw);
  await generate.dispose();
}

async function compare(name: string, draw: (options: Partial<typeof scaling>) => Promise<unknown>): Promise<void> {
  const timed = (options: Partial<typeof scaling>) => async (): Promise<Measurement> => ({
    seconds: (await measure(() => draw(options))).seconds,
  });
  const { ratio } = await runPairs({ name, pairs: PAIRS, warmup: 2, ours: timed(scaling), reference: timed({}) });
  printRatio(name.replace(' ', '-'), ratio);
}
