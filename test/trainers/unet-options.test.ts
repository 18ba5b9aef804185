import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { UNet2DOptions } from '../../src/models/index.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import { tinyUNet } from '../models/tiny-unet.ts';
import { smallImageTrainer } from './small-image-trainer.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-unet-options-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const residual: UNet2DOptions = {
  act_fn: 'mish',
  attention_head_dim: 3,
  time_embedding_type: 'learned',
  num_train_timesteps: 1000,
  down_block_types: ['ResnetDownsampleBlock2D', 'AttnDownBlock2D'],
  up_block_types: ['AttnUpBlock2D', 'ResnetUpsampleBlock2D'],
  upsample_type: 'resnet',
};

describe('a U-Net with learned timesteps and residual resampling', () => {
  it('trains, is saved, and draws the same images after it was opened again', async () => {
    const output_dir = path.join(folder, 'run');
    const trainer = smallImageTrainer({ output_dir, max_steps: 4 }, [], 0.1, residual);
    const before = trainer.weights();
    await trainer.train();
    const after = trainer.weights();
    const unchanged = [...before.keys()].filter((name) => String(before.get(name)) === String(after.get(name)));
    expect(unchanged).toEqual([]);
    await trainer.savePipeline(path.join(output_dir, 'pipeline'));
    const draw = async () => {
      const generate = await pipeline('unconditional-image-generation', path.join(output_dir, 'pipeline'), {
        device: 'cpu',
      });
      const images = await generate({ batch_size: 2, num_inference_steps: 4, seed: 1 });
      await generate.dispose();
      return images.map(({ data }) => [...data]);
    };
    const images = await draw();
    expect(images[0]).toHaveLength(64);
    expect(await draw()).toEqual(images);
  }, 60_000);

  it.each<[UNet2DOptions, RegExp]>([
    [{ num_train_timesteps: 100 }, /takes the timesteps from 0 to 99, but the noise schedule has those from 0 to 999/],
    [{ time_embedding_type: 'fourier' }, /takes timesteps above 0, but the noise schedule has those from 0 to 999/],
  ])('%o is refused before any work', (changes, message) => {
    expect(() =>
      smallImageTrainer({ output_dir: path.join(folder, 'none') }, [], 0.1, { ...residual, ...changes }),
    ).toThrow(message);
  });

  it('of which the least above 0 is a normal number: the first session of a process may make others 0', () => {
    const { timestepRange } = tinyUNet({ time_embedding_type: 'fourier' });
    expect(timestepRange?.[0]).toBeGreaterThanOrEqual(2 ** -126);
  });
});
