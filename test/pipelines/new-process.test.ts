import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterAll, describe, expect, it } from 'vitest';
import { loadImages } from '../../src/datasets/index.ts';
import { isoLoss } from '../../src/losses/index.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import { writeImageGrid } from '../../src/plots/index.ts';
import { DDIMScheduler, DDPMScheduler } from '../../src/schedulers/index.ts';
import { Trainer } from '../../src/trainers/index.ts';
import { tinyUNet } from '../models/tiny-unet.ts';
import { runExample } from '../run-example.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-new-process-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.each([
  ['DDPM', 0],
  ['Iso-Diffusion', 0.05],
])('the digits, trained a little with %s', (name, lambda) => {
  it('are drawn the same here, in a new process, and there by transformers.js alone', async () => {
    const images = await loadImages('digits');
    const trainer = new Trainer({
      model: tinyUNet({ block_out_channels: [8, 16] }),
      args: {
        output_dir: path.join(folder, name),
        max_steps: 60,
        per_device_train_batch_size: 16,
        learning_rate: 4e-3,
        logging_steps: 20,
        use_ema: true,
        device: 'cpu',
      },
      train_dataset: images,
      loss: isoLoss({ lambda }),
      noise_scheduler: new DDPMScheduler(),
    });
    const { metrics } = await trainer.train();
    // Noise has the variance 1: a model that has learnt nothing has a loss of 1.
    expect(metrics?.base_loss).toBeLessThan(0.4);
    const target = path.join(folder, name, 'pipeline');
    await trainer.savePipeline(target);

    const generate = await pipeline('unconditional-image-generation', target, { device: 'cpu' });
    const drawn = await generate({
      batch_size: 3,
      num_inference_steps: 10,
      scheduler: new DDIMScheduler(),
      seed: 5,
      output_type: 'uint8',
    });
    await generate.dispose();
    await writeImageGrid(path.join(folder, `${name}.png`), drawn, { scale: 4 });
    expect(await sharp(path.join(folder, `${name}.png`)).metadata()).toMatchObject({ format: 'png' });

    const script = fileURLToPath(new URL('./draw-both-ways.ts', import.meta.url));
    const there = JSON.parse(await runExample(script, [target], folder));
    expect(new Set(drawn.data).size).toBeGreaterThan(20);
    expect(there.throughPipeline).toEqual([...drawn.data]);
    expect(there.throughTransformers).toEqual([...drawn.data]);
  }, 180_000);
});
