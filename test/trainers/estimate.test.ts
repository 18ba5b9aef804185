import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { isoLoss } from '../../src/losses/index.ts';
import { UNet2DModel, unet2DPreset } from '../../src/models/index.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { stepCosts } from '../../src/trainers/estimate/step-cost.ts';
import { stepSettings } from '../../src/trainers/step/settings.ts';
import { resolveTrainingArguments } from '../../src/trainers/training-arguments.ts';
import { smallImageTrainer } from './small-image-trainer.ts';
import { smallTrainer } from './small-trainer.ts';

const output_dir = mkdtempSync(path.join(tmpdir(), 'iso-estimate-'));
afterAll(() => rmSync(output_dir, { recursive: true, force: true }));
const GIB = 2 ** 30;

describe('an estimate', () => {
  it('measures what a step of a real run takes', async () => {
    const args = { output_dir, per_device_train_batch_size: 128, max_steps: 600, logging_steps: 100 };
    const times: number[] = [];
    const real = smallTrainer({ ...args, save_steps: 0, report_to: [] }, [
      { onStep: () => void times.push(performance.now()) },
    ]);
    const { run, measured, training_seconds } = await real.estimate({ measure_seconds: 0.5 });
    expect(measured?.batch_size).toBe(128);
    expect(measured?.steps).toBeGreaterThan(10);
    expect(training_seconds).toBeCloseTo(600 * run.step_seconds);
    // Nothing was changed by it, and the first hundred steps begin the session.
    await real.train();
    // It is called after each hundred.
    expect(times).toHaveLength(6);
    const hundreds = times.slice(1).map((time, i) => time - (times[i] ?? 0));
    const seconds = (hundreds.sort((a, b) => a - b)[2] ?? 0) / 1000 / 100;
    // Other tests run meanwhile, and not evenly: both are medians.
    expect(run.step_seconds).toBeGreaterThan(seconds / 5);
    expect(run.step_seconds).toBeLessThan(seconds * 5);
  });

  it('lists batches with what each takes, and says which fit', async () => {
    const trainer = smallImageTrainer({ output_dir });
    const options = { measure_seconds: 0, batch_sizes: [64, 1, 1024] };
    const { batches, run, available_bytes, measured } = await trainer.estimate(options);
    expect(measured).toBeUndefined();
    expect(available_bytes).toBeGreaterThan(GIB / 2);
    expect(batches.map(({ batch_size }) => batch_size)).toEqual([1, 2, 64, 1024]);
    expect(batches[1]).toEqual(run);
    const [one, , many, most] = batches;
    expect(many?.step_seconds).toBeGreaterThan(20 * (one?.step_seconds ?? 0));
    const between = ((many?.memory_bytes ?? 0) + (most?.memory_bytes ?? 0)) / 2;
    const limited = await trainer.estimate({ ...options, memory_bytes: between });
    expect(limited.batches.map(({ fits }) => fits)).toEqual([true, true, true, false]);
  });

  it('counts how often a scheduler evaluates the model', async () => {
    const trainer = smallTrainer({ output_dir });
    const samplingOf = async (scheduler: string, num_inference_steps?: number) =>
      (await trainer.estimate({ measure_seconds: 0, scheduler, num_inference_steps, num_samples: 500 })).sampling;
    const heun = await samplingOf('heun', 10);
    expect(heun).toMatchObject({ num_samples: 500, scheduler: 'HeunDiscreteScheduler', evaluations: 19 });
    const ddpm = await samplingOf('ddpm');
    expect(ddpm.evaluations).toBe(1000);
    expect(ddpm.seconds / heun.seconds).toBeCloseTo(1000 / 19);
  });

  it('is about a card that need not be there, where nothing is measured', async () => {
    const trainer = smallImageTrainer({ output_dir, device: 'cuda', tf32: true });
    expect(await trainer.estimate({ measure_seconds: 0, memory_bytes: GIB })).toMatchObject({ device: 'cuda' });
  });

  // GiB that onnxruntime took with CUDA libraries that compute nothing; the context comes on top.
  it('agrees with docs/gpu.md on the memory of a card within a third', () => {
    const args = resolveTrainingArguments({ output_dir, optim: 'adamw', use_ema: true, max_grad_norm: 1 });
    const parts = { model: new UNet2DModel(unet2DPreset('small')), loss: isoLoss({ lambda: 0.05 }) };
    const settings = stepSettings({ ...parts, noise_scheduler: new DDPMScheduler() }, args);
    const costAt = stepCosts(settings, { device: 'cuda', stepsPerRun: 10, dataBytes: 0 });
    const counted = { 64: 1.0, 128: 2.0, 256: 4.0, 512: 7.0 };
    for (const [batch, gibibytes] of Object.entries(counted)) {
      const ratio = (costAt(Number(batch)).memoryBytes / GIB - 1.5) / gibibytes;
      expect(ratio).toBeGreaterThan(0.75);
      expect(ratio).toBeLessThan(1.33);
    }
  });

  it('refuses options that it cannot use', async () => {
    const trainer = smallTrainer({ output_dir });
    await expect(trainer.estimate({ measure_seconds: -1 })).rejects.toThrow(InvalidArgumentError);
    await expect(trainer.estimate({ batch_sizes: [0] })).rejects.toThrow(/batch_sizes/);
    await expect(trainer.estimate({ scheduler: 'dpm+' })).rejects.toThrow(/Did you mean 'dpm\+\+'/);
  });
});
