// What a run does to other runs in its folder, and how one goes on after it was stopped or diverged.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { readTrainingCurve } from '../../src/experiments/jobs/training.ts';
import {
  CheckpointError,
  ConditionalDense,
  DDPMScheduler,
  InvalidArgumentError,
  isoLoss,
  loadPoints,
  NonFiniteLossError,
  NonFiniteWeightsError,
  type PointSet,
  Trainer,
  type TrainerCallback,
  type TrainingArguments,
} from '../../src/index.ts';
import { readCheckpoint, writeCheckpoint } from '../../src/trainers/checkpoint/checkpoint.ts';
import { runHere } from '../cli/run-cli.ts';

let folder: string;
let train_dataset: PointSet;
beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'iso-training-runs-'));
  train_dataset = await loadPoints('swiss-roll', { n: 64 });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const warnings: string[] = [];
const trainer = (args: TrainingArguments, callbacks: TrainerCallback[] = []) =>
  new Trainer({
    model: new ConditionalDense({ hidden_features: 16, num_hidden_layers: 1 }),
    args: { device: 'cpu', report_to: [], per_device_train_batch_size: 16, ...args },
    train_dataset,
    loss: isoLoss({ lambda: 0.1 }),
    noise_scheduler: new DDPMScheduler(),
    callbacks,
    on_warning: (message) => void warnings.push(message),
  });
const outputOf = (name: string) => path.join(folder, name);
const checkpointsIn = (dir: string) =>
  readdirSync(dir)
    .filter((name) => name.includes('checkpoint'))
    .sort();
const vectors = (trained: Trainer) => [...trained.weights().values()];

describe('a fresh run in the folder of another', () => {
  const output_dir = () => outputOf('shared');
  const told: string[] = [];
  const tell: TrainerCallback = {
    onSave: ({ global_step }, dir) => void told.push(`${global_step} ${existsSync(dir)}`),
  };

  it('keeps what it saved itself, and all that the other saved', async () => {
    const jsonl = { output_dir: output_dir(), report_to: ['jsonl'] as const, max_steps: 120 };
    await trainer({ ...jsonl, save_steps: 40 }).train();
    const before = readFileSync(path.join(output_dir(), 'checkpoint-120/state.safetensors'));
    const log = readFileSync(path.join(output_dir(), 'metrics.jsonl'), 'utf8');
    const stop = new AbortController();
    const args = { ...jsonl, save_steps: 8, logging_steps: 1, learning_rate: 5e-4 };
    const abort: TrainerCallback = { onStep: ({ global_step }) => void (global_step === 50 && stop.abort()) };
    await trainer(args, [abort, tell]).train({ signal: stop.signal });
    expect(told).toEqual(['8 true', '16 true', '24 true', '32 true', '40 true', '48 true', '50 true']);
    const kept = ['checkpoint-120', 'checkpoint-48', 'checkpoint-50', 'checkpoint-80'];
    expect(checkpointsIn(output_dir())).toEqual(kept);
    // The other run's log is kept as well.
    expect(readFileSync(path.join(output_dir(), 'metrics-2.jsonl'), 'utf8')).toBe(log);

    // The latest is the one that was written last, not the one of the highest step.
    const resumed = trainer(args, [tell]);
    const { global_step } = await resumed.train({ resume_from_checkpoint: 'latest' });
    expect(global_step).toBe(120);
    expect(told.slice(7)).toEqual(['56', '64', '72', '80', '88', '96', '104', '112', '120'].map((at) => `${at} true`));
    // Its own 112 and 120, beside what it was resumed from. The other run's 80 and 120 have their names still.
    const ownLast = ['checkpoint-112', 'checkpoint-120-2', 'checkpoint-50'];
    expect(checkpointsIn(output_dir())).toEqual(['checkpoint-120', 'checkpoint-80', ...ownLast].sort());
    expect(readFileSync(path.join(output_dir(), 'checkpoint-120/state.safetensors'))).toEqual(before);
    const unbroken = trainer({ ...args, output_dir: outputOf('alone') });
    await unbroken.train();
    expect(vectors(resumed)).toEqual(vectors(unbroken));
  });

  it('as does one that is resumed from an older checkpoint', async () => {
    const args = { output_dir: outputOf('older'), report_to: ['jsonl'] as const, save_steps: 10, logging_steps: 10 };
    await trainer({ ...args, max_steps: 50, save_total_limit: 5 }).train();
    told.length = 0;
    const log = readFileSync(path.join(args.output_dir, 'metrics.jsonl'), 'utf8');
    const branch = trainer({ ...args, max_steps: 40 }, [tell]);
    await branch.train({ resume_from_checkpoint: path.join(args.output_dir, 'checkpoint-20') });
    expect(told).toEqual(['30 true', '40 true']);
    const ofFirst = ['checkpoint-10', 'checkpoint-20', 'checkpoint-30', 'checkpoint-40', 'checkpoint-50'];
    expect(checkpointsIn(args.output_dir)).toEqual([...ofFirst, 'checkpoint-30-2', 'checkpoint-40-2'].sort());
    expect(readFileSync(path.join(args.output_dir, 'metrics-2.jsonl'), 'utf8')).toBe(log);
    expect((await readTrainingCurve(args.output_dir)).step).toEqual([10, 20, 30, 40]);
    // The branch is a run of its own from there on: the next resumption goes on with it and counts its checkpoints.
    await trainer({ ...args, max_steps: 60 }).train({ resume_from_checkpoint: 'latest' });
    expect(checkpointsIn(args.output_dir)).toEqual(
      [...ofFirst, 'checkpoint-40-2', 'checkpoint-50-2', 'checkpoint-60'].sort(),
    );
  });

  it("as does the other, when it goes on from its last checkpoint after this one's", async () => {
    const args = { output_dir: outputOf('in-turn'), report_to: ['jsonl'] as const, logging_steps: 5, save_steps: 5 };
    const log = (name = 'metrics') =>
      readFileSync(path.join(args.output_dir, `${name}.jsonl`), 'utf8').match(/"step":\d+/g);
    await trainer({ ...args, max_steps: 10 }).train();
    await trainer({ ...args, max_steps: 20, seed: 1 }).train();
    const resumed = trainer({ ...args, max_steps: 15 });
    await resumed.train({ resume_from_checkpoint: path.join(args.output_dir, 'checkpoint-10') });
    expect(log('metrics-2')).toEqual(['"step":5', '"step":10']);
    expect(log('metrics-3')).toEqual(['"step":5', '"step":10', '"step":15', '"step":20']);
    expect(log()).toEqual(['"step":11', '"step":15']);
    // The second run's own limit of two left it 15 and 20; the first one's 15 has another name.
    const names = ['checkpoint-10', 'checkpoint-15', 'checkpoint-15-2', 'checkpoint-20', 'checkpoint-5'];
    expect(checkpointsIn(args.output_dir)).toEqual(names);
  });

  it('is refused while the other still trains, and two calls of one trainer are two runs', async () => {
    const args = { output_dir: outputOf('at-once'), max_steps: 20 };
    let goOn = (): void => undefined;
    let begun = (): void => undefined;
    const until = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const hasBegun = new Promise<void>((resolve) => {
      begun = resolve;
    });
    const wait: TrainerCallback = {
      onTrainBegin: () => {
        begun();
        return until;
      },
    };
    const first = trainer(args, [wait]);
    const running = first.train();
    await hasBegun;
    await expect(trainer(args).train()).rejects.toThrow(InvalidArgumentError);
    await expect(first.train()).rejects.toThrow(`is in use by this process, process ${process.pid} of this host`);
    goOn();
    expect((await running).global_step).toBe(20);
    expect(readdirSync(args.output_dir).sort()).toEqual(['checkpoint-20']);
  });
});

describe('a run that diverged', () => {
  const bad = { learning_rate: 1e12, warmup_steps: 400, max_steps: 400, save_steps: 1 };

  it('goes on from its last good checkpoint with a lower rate, as its error says', async () => {
    const output_dir = outputOf('diverged');
    const diverging = trainer({ output_dir, ...bad });
    const error: unknown = await diverging.train().catch((cause: unknown) => cause);
    if (!(error instanceof NonFiniteLossError)) return expect.unreachable();
    expect(error.step).toBe(3);
    // The loss of step 3 is that of the weights after step 2: no learning rate helps there.
    expect(checkpointsIn(output_dir)).toEqual(['checkpoint-1', 'diverged-checkpoint-2']);
    expect(error.message).toContain(
      `Lower learning_rate, set max_grad_norm, or check the data, and resume from ${output_dir}/checkpoint-1.`,
    );

    warnings.length = 0;
    const args = { output_dir, report_to: ['jsonl'] as const, max_steps: 60, learning_rate: 1e-3, save_steps: 30 };
    const resumed = trainer(args);
    expect((await resumed.train({ resume_from_checkpoint: 'latest' })).global_step).toBe(60);
    expect(warnings).toEqual([
      'resumed at step 1 with learning_rate 0.001 instead of 1000000000000, max_steps 60 instead of 400, warmup_steps 0 instead of 400; the learning rate of step 2 is 0.001 instead of 2500000000',
    ]);
    const changed = {
      learning_rate: { from: 1e12, to: 1e-3 },
      max_steps: { from: 400, to: 60 },
      report_to: { from: [], to: ['jsonl'] },
      save_steps: { from: 1, to: 30 },
      warmup_steps: { from: 400, to: 0 },
    };
    const [note = ''] = readFileSync(path.join(output_dir, 'metrics.jsonl'), 'utf8').split('\n');
    expect(JSON.parse(note)).toEqual({ step: 2, changed });
    const { state } = await readCheckpoint(path.join(output_dir, 'checkpoint-60'));
    expect(state.changes).toEqual(Object.entries(changed).map(([name, values]) => ({ step: 2, name, ...values })));
    // The plots and tables of a log pass over the note.
    expect((await readTrainingCurve(output_dir)).step).toEqual([60]);
    // And with clipping.
    warnings.length = 0;
    await trainer({ ...args, max_grad_norm: 1, max_steps: 61 }).train({ resume_from_checkpoint: 'latest' });
    expect(warnings).toEqual(['resumed at step 60 with max_grad_norm 1 instead of 0']);
  });

  it('is not saved as a pipeline or as ONNX, and leaves an earlier pipeline as it is', async () => {
    const output_dir = outputOf('not-saved');
    const diverging = trainer({ output_dir, ...bad, use_ema: true });
    await diverging.savePipeline(path.join(output_dir, 'pipeline'));
    const before = readFileSync(path.join(output_dir, 'pipeline/unet/diffusion_pytorch_model.safetensors'));
    await expect(diverging.train()).rejects.toThrow(NonFiniteLossError);
    expect(vectors(diverging).some((weights) => weights.some(Number.isNaN))).toBe(true);
    const file = path.join(output_dir, 'model.onnx');
    const saved = diverging.savePipeline(path.join(output_dir, 'pipeline'));
    await expect(saved).rejects.toThrow(NonFiniteWeightsError);
    await expect(diverging.exportOnnx(file)).rejects.toThrow(NonFiniteWeightsError);
    await expect(diverging.savePipeline(path.join(output_dir, 'new'))).rejects.toThrow(
      /the model is not saved, because '[\w.]+' has NaN at index \d+/,
    );
    expect(existsSync(file)).toBe(false);
    expect(existsSync(path.join(output_dir, 'new'))).toBe(false);
    expect(readFileSync(path.join(output_dir, 'pipeline/unet/diffusion_pytorch_model.safetensors'))).toEqual(before);
  });

  it('ends with an error where only its last weights are not finite, and saves no such checkpoint', async () => {
    const output_dir = outputOf('last-step');
    // The loss of step 1 is fine, and its update is infinite.
    const error: unknown = await trainer({ output_dir, learning_rate: 1e40, max_steps: 1 })
      .train()
      .catch((cause) => cause);
    expect(error).toBeInstanceOf(NonFiniteLossError);
    expect(error).toMatchObject({
      step: 1,
      message: expect.stringMatching(/after it, parameters \d+ is .*start again/),
    });
    expect(existsSync(output_dir)).toBe(false);
  });

  it('can be continued on the command line too', async () => {
    const common =
      'train --dataset swiss-roll --n 64 --hidden-features 16 --batch-size 16 --device cpu --max-steps 20 --save-steps 1 --output';
    const run = (...more: string[]) => runHere([...common.split(' '), outputOf('cli'), ...more]);
    const diverged = await run('--lr', '1e12', '--warmup-steps', '400');
    expect(diverged.code).toBe(1);
    expect(diverged.stderr).toContain('Use the same command with --resume and a lower --lr, or with --max-grad-norm.');
    const resumed = await run('--lr', '1e-3', '--resume');
    expect(resumed.code).toBe(0);
    expect(resumed.stderr).toMatch(/warning: resumed at step 1 with learning_rate 0.001 instead of 1000000000000/);
    expect(existsSync(path.join(outputOf('cli'), 'pipeline/model_index.json'))).toBe(true);
  }, 120_000);
});

describe('a longer resumption', () => {
  it.each([
    ['cosine', 0, 0.0005],
    ['linear', 0, 0.0005],
  ] as const)('of a %s schedule says that the learning rate jumps', async (lr_scheduler_type, from, to) => {
    const output_dir = outputOf(`longer-${lr_scheduler_type}`);
    await trainer({ output_dir, lr_scheduler_type, max_steps: 20 }).train();
    warnings.length = 0;
    await trainer({ output_dir, lr_scheduler_type, max_steps: 40 }).train({ resume_from_checkpoint: 'latest' });
    expect(warnings).toEqual([
      `resumed at step 20 with max_steps 40 instead of 20; the learning rate of step 21 is ${to} instead of ${from}`,
    ]);
  });

  it('of a constant rate, on another device and with other logs, needs no word', async () => {
    const output_dir = outputOf('constant');
    await trainer({ output_dir, max_steps: 20, device: 'auto' }).train();
    warnings.length = 0;
    const args = { output_dir, max_steps: 30, logging_steps: 3, save_steps: 5, save_total_limit: 1 };
    const resumed = trainer(args);
    await resumed.train({ resume_from_checkpoint: 'latest' });
    expect(warnings).toEqual([]);
    const unbroken = trainer({ output_dir: outputOf('constant-unbroken'), max_steps: 30 });
    await unbroken.train();
    expect(vectors(resumed)).toEqual(vectors(unbroken));
  });

  it('warns by process.emitWarning where nobody listens', async () => {
    const emitted = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    const make = (learning_rate: number, max_steps: number) =>
      new Trainer({
        model: new ConditionalDense({ hidden_features: 16, num_hidden_layers: 1 }),
        args: { output_dir: outputOf('emitted'), device: 'cpu', report_to: [], learning_rate, max_steps },
        train_dataset,
        loss: isoLoss({ lambda: 0.1 }),
        noise_scheduler: new DDPMScheduler(),
      });
    try {
      await make(1e-3, 1).train();
      await make(1e-4, 2).train({ resume_from_checkpoint: 'latest' });
      expect(emitted.mock.calls.map(([message]) => message)).toEqual([
        expect.stringContaining('learning_rate 0.0001 instead of 0.001'),
      ]);
    } finally {
      emitted.mockRestore();
    }
  });
});

describe('a resumption', () => {
  it.each<[string, TrainingArguments, string]>([
    ['seed', { output_dir: '', seed: 3 }, 'seed is 0 there and 3 here'],
    [
      'batch size',
      { output_dir: '', per_device_train_batch_size: 8 },
      'per_device_train_batch_size is 16 there and 8 here',
    ],
    [
      'optimizer',
      { output_dir: '', optim: 'adamw' },
      'optim is "adam" there and "adamw" here; weight_decay is 0 there and 0.01 here',
    ],
    ['average', { output_dir: '', use_ema: true }, 'use_ema is false there and true here'],
  ])('with another %s is refused with both values', async (_, args, message) => {
    const output_dir = outputOf('refused');
    if (!existsSync(output_dir)) await trainer({ output_dir, max_steps: 1 }).train();
    const resumed = trainer({ max_steps: 2, ...args, output_dir }).train({ resume_from_checkpoint: 'latest' });
    await expect(resumed).rejects.toThrow(CheckpointError);
    await expect(resumed).rejects.toThrow(message);
  });

  it('with another model, other data, loss or noise schedule is refused with both values', async () => {
    const output_dir = outputOf('other-parts');
    await trainer({ output_dir, max_steps: 1 }).train();
    const parts = {
      model: new ConditionalDense({ hidden_features: 16, num_hidden_layers: 1 }),
      args: { output_dir, device: 'cpu' as const, report_to: [], per_device_train_batch_size: 16, max_steps: 2 },
      train_dataset,
      loss: isoLoss({ lambda: 0.1 }),
      noise_scheduler: new DDPMScheduler(),
    };
    const others = {
      'model.hidden_features is 16 there and 8 here': {
        model: new ConditionalDense({ hidden_features: 8, num_hidden_layers: 1 }),
      },
      'loss.lambda is 0.1 there and 0.2 here': { loss: isoLoss({ lambda: 0.2 }) },
      'noise_scheduler.beta_schedule is "linear" there and "sigmoid" here': {
        noise_scheduler: new DDPMScheduler({ beta_schedule: 'sigmoid' }),
      },
      'dataset_sha256 is "': { train_dataset: await loadPoints('moons', { n: 64 }) },
    };
    for (const [message, other] of Object.entries(others))
      await expect(new Trainer({ ...parts, ...other }).train({ resume_from_checkpoint: 'latest' })).rejects.toThrow(
        message,
      );
  });

  it.each<[string, (tensors: Map<string, Float32Array>) => void, string]>([
    ['too few parameters', (tensors) => tensors.set('parameters', new Float32Array(3)), "'parameters' has 3 values"],
    ['no moments', (tensors) => tensors.delete('first_moment'), "'first_moment' has no values"],
  ])('from a checkpoint of this identity with %s is refused', async (name, change, message) => {
    const output_dir = outputOf(`hostile ${name}`);
    await trainer({ output_dir, max_steps: 1 }).train();
    const { tensors, state, step } = await readCheckpoint(path.join(output_dir, 'checkpoint-1'));
    const vectorsOf = new Map([...tensors].map(([key, { data }]) => [key, data as Float32Array]));
    change(vectorsOf);
    const written = new Map(
      [...vectorsOf].map(([key, data]) => [key, { dtype: 'F32' as const, shape: [data.length], data }]),
    );
    const dir = await writeCheckpoint(outputOf(`hostile copy ${name}`), step, { tensors: written, state });
    const resumed = trainer({ output_dir, max_steps: 2 }).train({ resume_from_checkpoint: dir });
    await expect(resumed).rejects.toThrow(CheckpointError);
    await expect(resumed).rejects.toThrow(message);
  });

  it.each([{}, { global_step: 2 }, { global_step: -1 }, { global_step: 1, changes: 'many' }])(
    'from a checkpoint with the state %j is refused',
    async (state) => {
      const dir = await writeCheckpoint(outputOf('hostile state'), 1, { tensors: new Map(), state });
      const resumed = trainer({ output_dir: outputOf('hostile'), max_steps: 2 }).train({ resume_from_checkpoint: dir });
      await expect(resumed).rejects.toThrow(/holds no state of a training run/);
    },
  );
});

describe('what a Trainer is given', () => {
  it('is read when it is made: later changes of the objects have no effect', async () => {
    const given = (name: string) => ({
      model: new ConditionalDense({ hidden_features: 16, num_hidden_layers: 1 }),
      args: {
        output_dir: outputOf(name),
        device: 'cpu' as const,
        report_to: [],
        per_device_train_batch_size: 16,
        max_steps: 9,
      },
      train_dataset,
      loss: isoLoss({ lambda: 0.1 }),
      noise_scheduler: new DDPMScheduler(),
      callbacks: [] as TrainerCallback[],
    });
    const expected = new Trainer(given('untouched'));
    await expected.train();
    await expected.savePipeline(outputOf('untouched/pipeline'));

    const options = given('changed');
    const made = new Trainer(options);
    const spoil = () => {
      Object.assign(options.args, { max_steps: 3, learning_rate: 1, output_dir: outputOf('elsewhere') });
      Object.assign(options, { loss: isoLoss({ lambda: 9 }), train_dataset: null });
      Object.assign(options.noise_scheduler.config, { prediction_type: 'sample', num_train_timesteps: 7 });
      options.noise_scheduler.betas.fill(0.5);
      options.noise_scheduler.alphasCumprod.fill(0.5);
      options.callbacks.push({ onTrainBegin: () => expect.unreachable() });
    };
    spoil();
    const training = made.train();
    spoil();
    expect((await training).global_step).toBe(9);
    expect(vectors(made)).toEqual(vectors(expected));
    await made.savePipeline(outputOf('changed/pipeline'));
    const scheduler = (name: string) =>
      readFileSync(path.join(outputOf(name), 'pipeline/scheduler/scheduler_config.json'), 'utf8');
    expect(scheduler('changed')).toBe(scheduler('untouched'));
    expect(existsSync(outputOf('elsewhere'))).toBe(false);
    expect(() => Object.assign(made.args, { max_steps: 1 })).toThrow(TypeError);
  });

  it('a model whose config was changed meanwhile is refused', async () => {
    const model = new ConditionalDense({ hidden_features: 16, num_hidden_layers: 1 });
    const made = new Trainer({
      model,
      args: { output_dir: outputOf('changed-config'), device: 'cpu', report_to: [], max_steps: 1 },
      train_dataset,
      loss: isoLoss({ lambda: 0.1 }),
      noise_scheduler: new DDPMScheduler(),
    });
    Object.assign(model.config, { hidden_features: 32 });
    await expect(made.train()).rejects.toThrow(/model.config was changed after the trainer was made, .*16.* to .*32/);
  });

  it('and train() reads its own options before it waits for anything', async () => {
    const output_dir = outputOf('train-options');
    await trainer({ output_dir, max_steps: 2 }).train();
    const options: { resume_from_checkpoint?: string } = { resume_from_checkpoint: 'latest' };
    const first: number[] = [];
    const resumed = trainer({ output_dir, max_steps: 4 }, [
      { onTrainBegin: ({ global_step }) => void first.push(global_step) },
    ]);
    const training = resumed.train(options);
    delete options.resume_from_checkpoint;
    await training;
    expect(first).toEqual([2]);
  });
});

it('the moving average is what its definition says', async () => {
  // ema_n = d ema + (1 - d) w_n with d = min(1 - (1 + (n - 1) / inv_gamma)^-power, max), and d = 0 at n = 1.
  const settings = [
    [1, 0.75, 0.9999],
    [1, 2 / 3, 0.9],
    [10, 1, 0.5],
  ] as const;
  const steps = 6;
  const run = async (max_steps: number, [ema_inv_gamma, ema_power, ema_max_decay]: (typeof settings)[number]) => {
    const output_dir = outputOf(`ema-${max_steps}-${ema_power}`);
    const trained = trainer({ output_dir, max_steps, use_ema: true, ema_inv_gamma, ema_power, ema_max_decay });
    await trained.train();
    return trained;
  };
  const flat = (weights: Map<string, Float32Array>) => [...weights.values()].flatMap((values) => [...values]);
  const raw: number[][] = [];
  for (let n = 1; n <= steps; n++) raw.push(flat((await run(n, settings[0])).weights()));
  for (const setting of settings) {
    const [invGamma, power, most] = setting;
    const expected = raw.reduce((average, weights, i) => {
      const d = i === 0 ? 0 : Math.min(1 - (1 + i / invGamma) ** -power, most);
      return weights.map((w, k) => d * (average[k] ?? 0) + (1 - d) * w);
    }, [] as number[]);
    const got = flat((await run(steps, setting)).weights({ ema: true }));
    // float32 rounds each of the six averages by at most 2^-24 of weights below 1.
    expect(Math.max(...got.map((value, k) => Math.abs(value - (expected[k] ?? 0))))).toBeLessThan(1e-6);
  }
});
