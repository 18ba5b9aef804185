import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { DeviceError, InvalidArgumentError, NonFiniteLossError } from '../../src/errors.ts';
import { hybridLoss, isoLoss } from '../../src/losses/index.ts';
import { ConditionalDense, type UNet2DModel, type UNet2DOptions } from '../../src/models/index.ts';
import { initialVector } from '../../src/models/model.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import type { TfjsModule } from '../../src/runtime/index.ts';
import { asTfjs } from '../../src/runtime/tfjs/tf-module.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { readCheckpoint } from '../../src/trainers/checkpoint/checkpoint.ts';
import { BatchStream } from '../../src/trainers/data/batch-stream.ts';
import { imageSamples } from '../../src/trainers/data/samples.ts';
import { DeviceBackend } from '../../src/trainers/engines/device.ts';
import { Engine as StepEngine } from '../../src/trainers/engines/engine.ts';
import { TfjsBackend } from '../../src/trainers/engines/tfjs.ts';
import { stepSchedule, stepSettings } from '../../src/trainers/step/settings.ts';
import { Trainer } from '../../src/trainers/trainer.ts';
import type { TrainerCallback } from '../../src/trainers/trainer-callback.ts';
import type { TrainerOptions } from '../../src/trainers/trainer-options.ts';
import { resolveTrainingArguments, type TrainingArguments } from '../../src/trainers/training-arguments.ts';
import { relativeError } from '../models/run-graph.ts';
import { tinyUNet } from '../models/tiny-unet.ts';
import { tf } from '../runtime/tfjs/load-tf.ts';
import { circle } from './small-trainer.ts';
import { stripes } from './stripes.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-tfjs-engine-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Engine = Pick<TrainerOptions, 'engine' | 'tf'>;
const tfjs: Engine = { engine: 'tfjs', tf };

function unet(options: UNet2DOptions): UNet2DModel {
  return tinyUNet({ block_out_channels: [4, 8], norm_num_groups: 2, attention_head_dim: 4, ...options });
}

/** Everything on that a step does. The large epsilon keeps rounding in gradients near 0 from deciding an update. */
const everything = {
  optim: 'adamw',
  adam_epsilon: 1e-3,
  learning_rate: 3e-3,
  lr_scheduler_type: 'cosine',
  warmup_steps: 2,
  max_grad_norm: 1,
  use_ema: true,
  gradient_accumulation_steps: 2,
  logging_steps: 1,
} as const;

function pointTrainer(
  name: string,
  engine: Engine,
  args: Partial<TrainingArguments> = {},
  onStep: TrainerCallback['onStep'] = () => {},
): Trainer {
  return new Trainer({
    model: new ConditionalDense({ hidden_features: 16 }),
    args: {
      ...everything,
      output_dir: path.join(folder, name),
      per_device_train_batch_size: 16,
      device: engine.tf ? 'auto' : 'cpu',
      ...args,
    },
    train_dataset: circle(),
    loss: isoLoss({ lambda: 0.1 }),
    noise_scheduler: new DDPMScheduler({ clip_sample: false }),
    callbacks: [{ onStep }],
    ...engine,
  });
}

function imageTrainer(name: string, engine: Engine, losses: number[]): Trainer {
  return new Trainer({
    model: unet({ num_class_embeds: 3 }),
    args: {
      ...everything,
      output_dir: path.join(folder, name),
      max_steps: 2,
      per_device_train_batch_size: 1,
      random_flip: true,
      class_dropout_prob: 0.2,
      device: engine.tf ? 'auto' : 'cpu',
    },
    train_dataset: stripes(),
    loss: isoLoss({ lambda: 0.1 }),
    noise_scheduler: new DDPMScheduler(),
    callbacks: [{ onStep: (_state, metrics) => void losses.push(...Object.values(metrics)) }],
    ...engine,
  });
}

const flat = (weights: Map<string, Float32Array>) => Float32Array.from([...weights.values()].flatMap((w) => [...w]));

describe('a step by tfjs', () => {
  it.each([
    ['epsilon, padding as torch', {}, 'epsilon'],
    ['velocity, padding below and right', { downsample_padding: 0 }, 'v_prediction'],
    ['x0, scale and shift', { resnet_time_scale_shift: 'scale_shift' }, 'sample'],
    ['dropout', { dropout: 0.3 }, 'epsilon'],
    ['a learned variance', { out_channels: 2 }, 'epsilon'],
    ['a learned variance beside velocity, and dropout', { out_channels: 2, dropout: 0.1 }, 'v_prediction'],
  ] as const)('has our gradient of every parameter: %s', async (name, options, prediction_type) => {
    const model = unet({ num_class_embeds: 2, ...options });
    const base = isoLoss({ lambda: 0.1 });
    const gradients = async (engine: Engine) => {
      const row: number[] = [];
      const output_dir = path.join(folder, `${name} ${engine.engine}`);
      const trainer = new Trainer({
        model,
        args: {
          output_dir,
          per_device_train_batch_size: 2,
          max_steps: 1,
          device: engine.tf ? 'auto' : 'cpu',
        },
        train_dataset: stripes(),
        loss: model.config.out_channels === 2 ? hybridLoss({ base, vlb_weight: 0.01 }) : base,
        noise_scheduler: new DDPMScheduler({ prediction_type }),
        callbacks: [{ onStep: (_state, metrics) => void row.push(...Object.values(metrics)) }],
        ...engine,
      });
      await trainer.train();
      // From zero, the first moment is the gradient (in the scale of `adamStep`).
      const { tensors } = await readCheckpoint(path.join(output_dir, 'checkpoint-1'));
      return { row, moment: tensors.get('first_moment')?.data as Float32Array };
    };
    const [ours, theirs] = [await gradients({}), await gradients(tfjs)];
    expect(relativeError(theirs.row, ours.row)).toBeLessThan(1e-5);
    const largest = Math.max(...ours.moment.map(Math.abs));
    let offset = 0;
    for (const { name, shape } of model.parameters) {
      const length = shape.reduce((a, b) => a * b, 1);
      const [a, b] = [theirs.moment, ours.moment].map((all) => all.subarray(offset, offset + length));
      const size = Math.hypot(...(b as Float32Array));
      const error = Math.hypot(...(a as Float32Array).map((x, i) => x - (b?.[i] as number)));
      // The promise is 1e-4 of each gradient. Those of key biases are 0 but for rounding.
      expect(error, name).toBeLessThan(1e-4 * size + 1e-6 * largest);
      offset += length;
    }
  });

  it('drops other elements in each batch of each step, the same as the other engines', async () => {
    const model = unet({ num_class_embeds: 2, dropout: 0.3 });
    const args = resolveTrainingArguments({
      output_dir: 'unused',
      per_device_train_batch_size: 1,
      gradient_accumulation_steps: 2,
      adam_epsilon: 1e-3,
      max_grad_norm: 1,
    });
    const loss = isoLoss({ lambda: 0.1 });
    const settings = stepSettings({ model, loss, noise_scheduler: new DDPMScheduler() }, args);
    const initial = new Map([['parameters' as const, initialVector(model, 0)]]);
    const samples = imageSamples(stripes(), { random_flip: false });
    const batches = new BatchStream(samples, {
      batchSize: 2,
      trainTimesteps: 1000,
      seed: 0,
      classes: { classCount: 2, dropout: 0 },
    });
    // On the cpu a `Trainer` would train in hwnc, and a mask would fall on other elements.
    const backends = [
      await DeviceBackend.create(settings, 'cpu', initial),
      await TfjsBackend.create(asTfjs(tf), settings, initial),
    ];
    const rows: number[][] = [];
    for (const backend of backends) {
      const engine = new StepEngine(backend, settings, batches, stepSchedule(args, 2));
      const reports = await engine.run(0, 2);
      rows.push(reports.flatMap((report) => Object.values(report)));
      await engine.release();
    }
    const [ours = [], theirs = []] = rows;
    expect(theirs).toHaveLength(12);
    expect(relativeError(theirs, ours)).toBeLessThan(1e-5);
  });

  it('takes the steps of the other engine: losses, weights and average of a U-Net', async () => {
    const losses: Record<string, number[]> = { ours: [], theirs: [] };
    const ours = imageTrainer('ours', {}, losses.ours as number[]);
    const theirs = imageTrainer('theirs', tfjs, losses.theirs as number[]);
    await ours.train();
    await theirs.train();
    // Gradients agree to some 1e-6, and 2 steps of at most 3e-3 carry that over.
    expect(relativeError(losses.theirs ?? [], losses.ours ?? [])).toBeLessThan(1e-5);
    for (const ema of [false, true])
      expect(relativeError(flat(theirs.weights({ ema })), flat(ours.weights({ ema })))).toBeLessThan(1e-5);
    expect(flat(theirs.weights())).not.toEqual(flat(theirs.weights({ ema: true })));
  });
});

describe('a run by tfjs', () => {
  afterEach(() => {
    expect(tf.memory().numTensors).toBe(0);
  });

  it('resumes with the same bits, and continues a checkpoint of the other engine', async () => {
    const unbroken = pointTrainer('unbroken', tfjs, { max_steps: 8 });
    await unbroken.train();
    const run = async (name: string, first: Engine) => {
      const interruption = new AbortController();
      const interrupted = pointTrainer(name, first, { max_steps: 8 }, ({ global_step }) => {
        if (global_step === 5) interruption.abort();
      });
      expect((await interrupted.train({ signal: interruption.signal })).global_step).toBe(5);
      const second = pointTrainer(name, tfjs, { max_steps: 8 });
      expect((await second.train({ resume_from_checkpoint: 'latest' })).global_step).toBe(8);
      return second.weights({ ema: true });
    };
    expect(await run('resumed', tfjs)).toEqual(unbroken.weights({ ema: true }));
    const continued = flat(await run('continued', {}));
    expect(relativeError(continued, flat(unbroken.weights({ ema: true })))).toBeLessThan(1e-5);
  });

  it('ends in a pipeline that onnxruntime runs', async () => {
    const trainer = pointTrainer('export', tfjs, { max_steps: 3 });
    await trainer.train();
    const target = path.join(folder, 'export/pipeline');
    await trainer.savePipeline(target);
    const generate = await pipeline('unconditional-point-generation', target, { device: 'cpu' });
    const { points } = await generate({ batch_size: 4, num_inference_steps: 10 });
    expect(points).toHaveLength(8);
    expect(points.every(Number.isFinite)).toBe(true);
    await generate.dispose();
  });

  it('holds as many tensors after each step', async () => {
    const counts: number[] = [];
    await pointTrainer('memory', tfjs, { max_steps: 6 }, () => {
      counts.push(tf.memory().numTensors);
    }).train();
    expect(counts).toHaveLength(6);
    expect(new Set(counts).size).toBe(1);
  });

  it('says at which step it diverged, and keeps the state before it', async () => {
    const trainer = pointTrainer('diverged', tfjs, { max_steps: 9, learning_rate: 1e30, warmup_steps: 0 });
    await expect(trainer.train()).rejects.toThrow(NonFiniteLossError);
    expect(flat(trainer.weights()).every(Number.isFinite)).toBe(true);
  });
});

describe('the options', () => {
  it.each([
    ['no tf', { engine: 'tfjs' }, {}, /none is given/],
    [
      'a module that wraps tf',
      { engine: 'tfjs', tf: { default: tf } as unknown as TfjsModule },
      {},
      /no valueAndGrads/,
    ],
    ['tf without the engine', { tf }, {}, /set engine: 'tfjs'/],
    ['a device', tfjs, { device: 'cuda' }, /leave device out/],
    ['half precision', tfjs, { mixed_precision: 'fp16' }, /'tfjs' has no float16/],
    ['an unknown engine', { engine: 'torch' as 'tfjs' }, {}, /'torch' is unknown/],
  ] as const)('refuse %s', (_name, engine, args, message) => {
    expect(() => pointTrainer('refused', engine, { device: 'auto', ...args })).toThrow(InvalidArgumentError);
    expect(() => pointTrainer('refused', engine, { device: 'auto', ...args })).toThrow(message);
  });
});

it('refuses gradient_checkpointing before any work', async () => {
  const trainer = pointTrainer('checkpointing', tfjs, { gradient_checkpointing: true });
  await expect(trainer.train()).rejects.toThrow("engine 'tfjs' does not train with gradient_checkpointing");
});

// Last, because tfjs keeps what it saved for the gradient when a kernel fails.
it('names the kernel that a backend lacks', async () => {
  const relu = tf.getKernel('Relu', 'cpu');
  tf.unregisterKernel('Relu', 'cpu');
  try {
    const training = pointTrainer('lacking', tfjs, { max_steps: 1 }).train();
    await expect(training).rejects.toThrow(DeviceError);
    await expect(training).rejects.toThrow(/'cpu' has no kernel 'Relu'/);
  } finally {
    tf.registerKernel(relu);
  }
});
