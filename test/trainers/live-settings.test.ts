import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { CheckpointError, InvalidArgumentError } from '../../src/errors.ts';
import { abs, mul, reduceMean, sub } from '../../src/graph/ops/index.ts';
import { scalarLike } from '../../src/graph/registry.ts';
import { type DiffusionLoss, defineLoss, hybridLoss, isoLoss, regressionTarget } from '../../src/losses/index.ts';
import { ConditionalDense } from '../../src/models/conditional-dense.ts';
import { type DiffusionModel, initialVector } from '../../src/models/model.ts';
import { asTfjs } from '../../src/runtime/tfjs/tf-module.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { readCheckpoint } from '../../src/trainers/checkpoint/checkpoint.ts';
import { BatchStream } from '../../src/trainers/data/batch-stream.ts';
import { imageSamples, pointSamples } from '../../src/trainers/data/samples.ts';
import type { Backend } from '../../src/trainers/engines/backend.ts';
import { DeviceBackend } from '../../src/trainers/engines/device.ts';
import { Engine } from '../../src/trainers/engines/engine.ts';
import { FusedBackend } from '../../src/trainers/engines/fused.ts';
import { HostBackend } from '../../src/trainers/engines/host.ts';
import { TfjsBackend } from '../../src/trainers/engines/tfjs.ts';
import { type StepSchedule, stepSchedule, stepSettings } from '../../src/trainers/step/settings.ts';
import { Trainer } from '../../src/trainers/trainer.ts';
import type { TrainerCallback } from '../../src/trainers/trainer-callback.ts';
import type { TrainerOptions } from '../../src/trainers/trainer-options.ts';
import { resolveTrainingArguments, type TrainingArguments } from '../../src/trainers/training-arguments.ts';
import { relativeError } from '../models/run-graph.ts';
import { tinyUNet } from '../models/tiny-unet.ts';
import { tf } from '../runtime/tfjs/load-tf.ts';
import { circle } from './small-trainer.ts';
import { stripes } from './stripes.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-live-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Create = (...given: Parameters<typeof FusedBackend.create>) => Promise<Backend | FusedBackend>;
const backends: Record<string, Create> = {
  fused: FusedBackend.create,
  device: (settings, device, initial) => DeviceBackend.create(settings, device, initial),
  host: (settings, _device, initial) => HostBackend.create(settings, initial),
  tfjs: (settings, _device, initial) => TfjsBackend.create(asTfjs(tf), settings, initial),
};

/** A user's loss with a number of its own that may change. */
function weightedL1(weight: number): DiffusionLoss {
  const options = { scalars: { weight: { value: weight } } };
  return defineLoss(
    { name: 'weighted-l1', weight },
    (inputs) => {
      const error = reduceMean(abs(sub(inputs.modelOutput, regressionTarget(inputs))));
      const loss = mul(error, inputs.scalars?.weight ?? scalarLike(error, weight));
      return { loss, terms: { base_loss: error } };
    },
    options,
  );
}

/** Two steps with the first value of a scalar and two with the second: the state after them. */
async function fourSteps(create: Create, accumulationSteps: number, subject: Subject, live: boolean) {
  const { model = new ConditionalDense({ hidden_features: 16 }), scalar, loss, values } = subject;
  const args = resolveTrainingArguments({
    output_dir: 'unused',
    per_device_train_batch_size: 4,
    gradient_accumulation_steps: accumulationSteps,
    max_grad_norm: 0.5,
    // A large epsilon keeps rounding in gradients near 0 from deciding an update.
    adam_epsilon: 1e-3,
    use_ema: true,
  });
  const samples = model.sampleShape.length > 1 ? imageSamples(stripes(), args) : pointSamples(circle());
  const batches = new BatchStream(samples, {
    batchSize: 4 * accumulationSteps,
    trainTimesteps: 1000,
    seed: 0,
    classes: undefined,
  });
  const parameters = initialVector(model, 0);
  let state = new Map([
    ['parameters' as const, parameters],
    ['ema' as const, parameters.slice()],
  ]) as Parameters<Create>[2];
  const noise_scheduler = new DDPMScheduler();
  const runs = live
    ? [{ loss: loss(values[0]), changeable_scalars: [scalar], first: 0, count: 4 }]
    : values.map((value, i) => ({ loss: loss(value), changeable_scalars: [], first: 2 * i, count: 2 }));
  for (const { first, count, ...run } of runs) {
    const settings = stepSettings({ model, noise_scheduler, ...run }, args);
    const schedule: StepSchedule = {
      ...stepSchedule(args, 4),
      lossScalars: (step): Record<string, number> => (live ? { [scalar]: values[step <= 2 ? 0 : 1] } : {}),
    };
    const backend = await create(settings, 'cpu', state, batches, schedule);
    const engine = new Engine(backend, settings, batches, schedule);
    await engine.run(first, count);
    state = await engine.state();
    await engine.release();
  }
  return state.get('parameters') ?? new Float32Array();
}

interface Subject {
  readonly model?: DiffusionModel;
  readonly scalar: string;
  readonly loss: (value: number) => DiffusionLoss;
  readonly values: readonly [number, number];
}

const lambda: Subject = { scalar: 'lambda', loss: (value) => isoLoss({ lambda: value }), values: [0.1, 3] };
const subjects: Record<string, Subject> = {
  'lambda of isoLoss, from 0': { ...lambda, values: [0, 3] },
  "a user's weight below isoLoss": {
    scalar: 'weight',
    loss: (weight) => isoLoss({ lambda: 0.5, base: weightedL1(weight) }),
    values: [1, -2],
  },
  'vlb_weight of hybridLoss': {
    model: tinyUNet({ out_channels: 2, block_out_channels: [4, 8], norm_num_groups: 2, attention_head_dim: 4 }),
    scalar: 'vlb_weight',
    loss: (vlb_weight) => hybridLoss({ vlb_weight, base: isoLoss({ lambda: 0.2 }) }),
    values: [0.001, 0.1],
  },
};

describe('a scalar of a loss changes between two steps, as if the steps after it were another run', () => {
  it.each(Object.entries(backends))('on every backend: %s', async (_, create) => {
    for (const accumulationSteps of [1, 2]) {
      const constant = await fourSteps(create, accumulationSteps, lambda, false);
      const changed = await fourSteps(create, accumulationSteps, lambda, true);
      expect(relativeError(changed, constant)).toBeLessThan(1e-6);
    }
  });

  it.each(Object.entries(subjects))('%s', async (_, subject) => {
    const constant = await fourSteps(FusedBackend.create, 1, subject, false);
    const changed = await fourSteps(FusedBackend.create, 1, subject, true);
    expect(relativeError(changed, constant)).toBeLessThan(1e-6);
  });
});

it('the weight that is changed to decides the result', async () => {
  const changed = await fourSteps(FusedBackend.create, 1, lambda, true);
  const unchanged = await fourSteps(FusedBackend.create, 1, { ...lambda, values: [0.1, 0.1] }, true);
  expect(relativeError(changed, unchanged)).toBeGreaterThan(1e-4);
});

function trainer(name: string, args: Partial<TrainingArguments> = {}, options: Partial<TrainerOptions> = {}): Trainer {
  return new Trainer({
    model: new ConditionalDense({ hidden_features: 8 }),
    args: {
      output_dir: path.join(folder, name),
      max_steps: 12,
      per_device_train_batch_size: 16,
      lr_scheduler_type: 'cosine',
      device: 'cpu',
      logging_steps: 2,
      save_steps: 4,
      ...args,
    },
    train_dataset: circle(),
    loss: isoLoss({ lambda: 0.1 }),
    changeable_scalars: ['lambda'],
    noise_scheduler: new DDPMScheduler(),
    ...options,
  });
}

const linesOf = (name: string): Record<string, unknown>[] =>
  readFileSync(path.join(folder, name, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
const withoutClock = (lines: Record<string, unknown>[]) => lines.map(({ steps_per_second: _, ...line }) => line);

/** Changes both settings after step 6. */
function changing(of: () => Trainer): TrainerCallback {
  return {
    interval_steps: 6,
    onInterval: ({ global_step }) => {
      if (global_step === 6) of().change({ learning_rate: 5e-4, loss: { lambda: 0.4 } });
    },
  };
}

describe('Trainer.change', () => {
  it('counts from the next step, and the log and the checkpoint say so', async () => {
    const own: Trainer = trainer('noted', {}, { callbacks: [changing(() => own)] });
    await own.train();
    const lines = linesOf('noted');
    expect(lines.find(({ changed }) => changed)).toEqual({
      step: 7,
      changed: { learning_rate: { from: 1e-3, to: 5e-4 }, 'loss.lambda': { from: 0.1, to: 0.4 } },
    });
    for (const line of lines.filter(({ changed }) => !changed)) {
      const { step, learning_rate, isotropy_penalty, weighted_isotropy_penalty } = line as Record<string, number>;
      const late = Number(step) > 6;
      const cosine = 0.5 * (1 + Math.cos((Math.PI * (Number(step) - 1)) / 12));
      expect(learning_rate).toBeCloseTo((late ? 5e-4 : 1e-3) * cosine, 12);
      expect(Number(weighted_isotropy_penalty) / Number(isotropy_penalty)).toBeCloseTo(late ? 0.4 : 0.1, 5);
    }
    const { state } = await readCheckpoint(path.join(folder, 'noted', 'checkpoint-12'));
    expect(state).toMatchObject({
      changes: [
        { step: 7, name: 'learning_rate', from: 1e-3, to: 5e-4, while_running: true },
        { step: 7, name: 'loss.lambda', from: 0.1, to: 0.4, while_running: true },
      ],
    });
    await own.savePipeline(path.join(folder, 'noted', 'pipeline'));
    const card = readFileSync(path.join(folder, 'noted', 'pipeline', 'README.md'), 'utf8');
    expect(card).toMatch(/loss\.lambda while training *\| 0\.1 at first, 0\.4 from step 7/);
    // Nothing is known of the minimiser of a loss that changed.
    const isotropy = JSON.parse(readFileSync(path.join(folder, 'noted', 'pipeline', 'unet', 'isotropy.json'), 'utf8'));
    expect(isotropy.lambda).toBeNull();
  });

  it('a run that is resumed goes on with what was in force, and ends with the bits of an unbroken one', async () => {
    const stop = new AbortController();
    const stopping = { onSave: ({ global_step }: { global_step: number }) => void (global_step === 8 && stop.abort()) };
    const broken: Trainer = trainer('broken', {}, { callbacks: [changing(() => broken), stopping] });
    expect((await broken.train({ signal: stop.signal })).interrupted).toBe(true);
    const warnings: string[] = [];
    const resumed = trainer('broken', {}, { on_warning: (text) => void warnings.push(text) });
    await resumed.train({ resume_from_checkpoint: 'latest' });
    const whole: Trainer = trainer('whole', {}, { callbacks: [changing(() => whole)] });
    await whole.train();
    expect(resumed.weights()).toEqual(whole.weights());
    expect(withoutClock(linesOf('broken'))).toEqual(withoutClock(linesOf('whole')));
    expect(warnings).toEqual([]);
  });

  it('a learning rate of 0 leaves the weights as they are', async () => {
    const still: Trainer = trainer(
      'still',
      {},
      { callbacks: [{ interval_steps: 6, onInterval: () => still.change({ learning_rate: 0 }) }] },
    );
    await still.train();
    const stop = new AbortController();
    const half = trainer('half', {}, { callbacks: [{ interval_steps: 6, onInterval: () => stop.abort() }] });
    await half.train({ signal: stop.signal });
    expect(still.weights()).toEqual(half.weights());
  });

  it('the arguments of a resumed run count more than an earlier change of the learning rate', async () => {
    const own: Trainer = trainer('given', { max_steps: 8 }, { callbacks: [changing(() => own)] });
    await own.train();
    const warnings: string[] = [];
    const args = { learning_rate: 2e-3, lr_scheduler_type: 'constant' } as const;
    const resumed = trainer('given', args, { on_warning: (text) => void warnings.push(text) });
    const { metrics } = await resumed.train({ resume_from_checkpoint: 'latest' });
    expect(metrics?.learning_rate).toBe(2e-3);
    expect(warnings.join()).toMatch(/learning_rate 0.002 instead of 0.0005/);
  });

  it('refuses to resume with a constant what was changed', async () => {
    const own: Trainer = trainer('constant', { max_steps: 8 }, { callbacks: [changing(() => own)] });
    await own.train();
    const resumed = trainer('constant', {}, { changeable_scalars: [] }).train({ resume_from_checkpoint: 'latest' });
    await expect(resumed).rejects.toThrow(CheckpointError);
    await expect(resumed).rejects.toThrow(/loss\.lambda was changed to 0\.4 .* name it in changeable_scalars/);
  });

  it('refuses what it cannot do, and changes nothing then', async () => {
    expect(() => trainer('idle').change({ learning_rate: 1e-4 })).toThrow(/while train\(\) runs/);
    expect(() => trainer('unknown', {}, { changeable_scalars: ['mu'] })).toThrow(
      /changeable_scalars names 'mu', but the loss 'iso' has no such scalar \(it has: lambda\)/,
    );
    const refused: string[] = [];
    const attempt = (changes: object) => {
      try {
        own.change(changes);
      } catch (error) {
        expect(error).toBeInstanceOf(InvalidArgumentError);
        refused.push((error as Error).message);
      }
    };
    const attempts: TrainerCallback = {
      onTrainBegin: () => {
        attempt({ learning_rate: Number.NaN });
        attempt({ learning_rate: -1 });
        attempt({ loss: { lambda: -0.1 } });
        attempt({ learning_rate: 1, loss: { mu: 1 } });
        attempt({ batch_size: 1 });
      },
    };
    const own: Trainer = trainer('refused', { max_steps: 2 }, { callbacks: [attempts] });
    await own.train();
    expect(refused).toEqual([
      'learning_rate cannot be changed to NaN: it must be a finite number of at least 0',
      'learning_rate cannot be changed to -1: it must be a finite number of at least 0',
      'loss.lambda cannot be changed to -0.1: it must be a finite number of at least 0',
      "'mu' of the loss is a constant of this run: name it in changeable_scalars when the Trainer is made (it has: lambda)",
      "change() cannot change 'batch_size': it takes learning_rate and loss, such as { loss: { lambda: 0.2 } }",
    ]);
    expect(linesOf('refused').some(({ changed }) => changed)).toBe(false);
  });
});
