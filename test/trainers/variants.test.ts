import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { hybridLoss, isoLoss, minSnrLoss } from '../../src/losses/index.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { Trainer } from '../../src/trainers/trainer.ts';
import type { StepMetrics } from '../../src/trainers/trainer-callback.ts';
import type { TrainerOptions } from '../../src/trainers/trainer-options.ts';
import { outputOf } from '../child-output.ts';
import { compiledScript } from '../compiled-script.ts';
import { plainLevels, tinyUNet } from '../models/tiny-unet.ts';
import { stripes } from './stripes.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-variants-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const unet = (out_channels = 1) => tinyUNet({ ...plainLevels, out_channels, add_attention: false });
type Variant = Pick<TrainerOptions, 'model' | 'loss' | 'noise_scheduler'> & { args?: Partial<TrainerOptions['args']> };
const variants: Record<string, Variant> = {
  'Iso and Improved DDPM: cosine schedule, hybrid loss': {
    model: unet(2),
    loss: hybridLoss({ base: isoLoss({ lambda: 0.1 }) }),
    noise_scheduler: new DDPMScheduler({ beta_schedule: 'squaredcos_cap_v2' }),
  },
  'Iso and min-SNR, by Lion, with offset noise and input perturbation': {
    model: unet(),
    loss: isoLoss({ lambda: 0.1, base: minSnrLoss({ snr_gamma: 5 }) }),
    noise_scheduler: new DDPMScheduler(),
    args: { optim: 'lion', learning_rate: 2e-3, noise_offset: 0.1, input_perturbation: 0.1 },
  },
  'Iso and v-prediction': {
    model: unet(),
    loss: isoLoss({ lambda: 0.1 }),
    noise_scheduler: new DDPMScheduler({ prediction_type: 'v_prediction', beta_schedule: 'squaredcos_cap_v2' }),
  },
};

it('variants of DDPM with Iso train, and are opened in another process, which draws from them', async () => {
  const folders: string[] = [];
  for (const [name, { args, ...parts }] of Object.entries(variants)) {
    const rows: StepMetrics[] = [];
    const output_dir = path.join(folder, name);
    const trainer = new Trainer({
      ...parts,
      args: {
        output_dir,
        max_steps: 30,
        per_device_train_batch_size: 8,
        learning_rate: 3e-3,
        logging_steps: 10,
        report_to: [],
        device: 'cpu',
        ...args,
      },
      train_dataset: stripes(),
      callbacks: [{ onStep: (_state, metrics) => void rows.push(metrics) }],
    });
    await trainer.train();
    const [first, , last] = rows;
    expect(last?.loss, name).toBeLessThan(0.9 * (first?.loss ?? Number.NaN));
    folders.push(path.join(output_dir, 'pipeline'));
    await trainer.savePipeline(path.join(output_dir, 'pipeline'));
  }
  const script = await compiledScript(new URL('open-and-sample.ts', import.meta.url));
  const { code, stdout, stderr } = await outputOf(spawn(process.execPath, [script, ...folders]));
  expect([code, stderr]).toEqual([0, '']);
  const drawn = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(drawn).toHaveLength(folders.length);
  expect(new Set(drawn.map(({ digest }) => digest)).size).toBe(folders.length);
  for (const { least, greatest, unexplained } of drawn) {
    // About 1 for a model that has learned nothing.
    expect(unexplained).toBeLessThan(0.8);
    expect(least).toBeGreaterThanOrEqual(0);
    expect(greatest).toBeLessThanOrEqual(1);
    expect(greatest - least).toBeGreaterThan(0.5);
  }
});
