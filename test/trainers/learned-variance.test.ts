import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { type DiffusionLoss, hybridLoss, simpleLoss } from '../../src/losses/index.ts';
import { exportModelGraph, OnnxModel } from '../../src/models/index.ts';
import { initialParameters } from '../../src/models/model.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import { DDPMScheduler } from '../../src/schedulers/index.ts';
import { Trainer } from '../../src/trainers/trainer.ts';
import type { StepMetrics } from '../../src/trainers/trainer-callback.ts';
import type { TrainingArguments } from '../../src/trainers/training-arguments.ts';
import { plainLevels, tinyUNet } from '../models/tiny-unet.ts';
import { stripes } from './stripes.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-variance-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const unet = (out_channels: number) => tinyUNet({ ...plainLevels, out_channels, add_attention: false });

interface Setting {
  loss?: DiffusionLoss;
  channels?: number;
  scheduler?: DDPMScheduler;
  args?: Partial<TrainingArguments>;
}
function makeTrainer(name: string, setting: Setting = {}, rows: StepMetrics[] = []) {
  const { loss = hybridLoss(), channels = 2, scheduler = new DDPMScheduler(), args } = setting;
  return new Trainer({
    model: unet(channels),
    args: {
      output_dir: path.join(folder, name),
      max_steps: 6,
      per_device_train_batch_size: 4,
      learning_rate: 2e-3,
      device: 'cpu',
      logging_steps: 1,
      ...args,
    },
    train_dataset: stripes(),
    loss,
    noise_scheduler: scheduler,
    callbacks: [
      {
        onStep: (_state, metrics) => void rows.push(metrics),
        onTrainEnd: (_state, run) => run.saveSnapshot(path.join(folder, name, 'snapshot')),
      },
    ],
  });
}
const scheduler = (prediction_type: 'epsilon' | 'v_prediction' | 'sample') => new DDPMScheduler({ prediction_type });

describe('training a learned variance', () => {
  it.each(['epsilon', 'v_prediction', 'sample'] as const)('lowers the bound: %s', async (type) => {
    const bounds = async (learning_rate: number) => {
      const rows: StepMetrics[] = [];
      const args = { max_steps: 30, per_device_train_batch_size: 8, learning_rate };
      await makeTrainer(`${type}-${learning_rate}`, { scheduler: scheduler(type), args }, rows).train();
      return rows.map((row) => row.loss - (row.base_loss ?? 0)).slice(20);
    };
    // The untrained model on the same noise and timesteps, which decide the size of a bound more than the training does.
    const untrained = await bounds(0);
    const ratios = (await bounds(2e-3)).map((bound, i) => bound / (untrained[i] ?? Number.NaN));
    expect(ratios.sort((a, b) => a - b)[5]).toBeLessThan(0.9);
  });

  it('makes the same steps in one graph and in the split engine', async () => {
    const whole: StepMetrics[] = [];
    const parts: StepMetrics[] = [];
    await makeTrainer('whole', { args: { per_device_train_batch_size: 8 } }, whole).train();
    const args = { per_device_train_batch_size: 2, gradient_accumulation_steps: 4 };
    await makeTrainer('parts', { args }, parts).train();
    parts.forEach((row, i) => {
      expect(row.loss).toBeCloseTo(whole[i]?.loss ?? Number.NaN, 3);
      expect(row.base_loss).toBeCloseTo(whole[i]?.base_loss ?? Number.NaN, 4);
    });
  });

  it('saves a pipeline whose scheduler reads the variance, and that generates', async () => {
    const run = makeTrainer('saved');
    await run.train();
    const target = path.join(folder, 'saved/pipeline');
    await run.savePipeline(target);
    for (const saved of [target, path.join(folder, 'saved/snapshot')]) {
      const config = JSON.parse(readFileSync(path.join(saved, 'scheduler/scheduler_config.json'), 'utf8'));
      expect(config.variance_type).toBe('learned_range');
    }
    const generate = await pipeline('unconditional-image-generation', target, { device: 'cpu' });
    const { data } = await generate({ batch_size: 2, num_inference_steps: 4, output_type: 'tensor' });
    expect(data).toHaveLength(2 * 64);
    expect(Array.from(data).every(Number.isFinite)).toBe(true);
    await generate.dispose();
  });

  it('fine-tunes an ONNX model with twice the channels', async () => {
    const source = unet(2);
    const model = OnnxModel.fromBytes(writeOnnx(exportModelGraph(source, initialParameters(source, 0))));
    expect(model.outputChannels).toBe(2);
    const rows: StepMetrics[] = [];
    const trainer = new Trainer({
      model,
      args: {
        output_dir: path.join(folder, 'onnx'),
        max_steps: 2,
        per_device_train_batch_size: 4,
        logging_steps: 1,
        device: 'cpu',
      },
      train_dataset: stripes(),
      loss: hybridLoss(),
      noise_scheduler: new DDPMScheduler(),
      callbacks: [{ onStep: (_state, metrics) => void rows.push(metrics) }],
    });
    await trainer.train();
    expect(rows.at(-1)?.loss).toBeGreaterThan(rows.at(-1)?.base_loss ?? Number.NaN);
  });
});

describe('refuses by name', () => {
  it.each<[string, Setting, RegExp]>([
    ['a variance that the loss does not train', { loss: simpleLoss() }, /2 output channels.*hybridLoss\(\{ base \}\)/],
    ['a loss whose variance the model lacks', { channels: 1 }, /'hybrid' trains a learned variance.*out_channels 2/],
    ['channels that are neither', { channels: 3 }, /3 output channels for 1/],
    [
      'a scheduler that samples another kind of variance',
      { scheduler: new DDPMScheduler({ variance_type: 'learned' }) },
      /variance_type 'learned'/,
    ],
    [
      'a scheduler that needs a variance where there is none',
      { channels: 1, loss: simpleLoss(), scheduler: new DDPMScheduler({ variance_type: 'learned_range' }) },
      /variance_type 'learned_range', but the model/,
    ],
  ])('%s', (_name, setting, message) => {
    expect(() => makeTrainer('never-written', setting)).toThrow(InvalidArgumentError);
    expect(() => makeTrainer('never-written', setting)).toThrow(message);
  });
});
