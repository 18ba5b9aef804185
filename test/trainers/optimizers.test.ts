import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { CheckpointError, InvalidArgumentError } from '../../src/errors.ts';
import { isoLoss } from '../../src/losses/index.ts';
import { ConditionalDense } from '../../src/models/conditional-dense.ts';
import { initialVector } from '../../src/models/model.ts';
import { asTfjs } from '../../src/runtime/tfjs/tf-module.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { readCheckpoint } from '../../src/trainers/checkpoint/checkpoint.ts';
import { BatchStream } from '../../src/trainers/data/batch-stream.ts';
import { pointSamples } from '../../src/trainers/data/samples.ts';
import { DeviceBackend } from '../../src/trainers/engines/device.ts';
import { Engine } from '../../src/trainers/engines/engine.ts';
import { FusedBackend } from '../../src/trainers/engines/fused.ts';
import { HostBackend } from '../../src/trainers/engines/host.ts';
import { TfjsBackend } from '../../src/trainers/engines/tfjs.ts';
import { stepSchedule, stepSettings } from '../../src/trainers/step/settings.ts';
import { resolveTrainingArguments, type TrainingArguments } from '../../src/trainers/training-arguments.ts';
import { largestError } from '../graph/optimizer-cases.ts';
import { tf } from '../runtime/tfjs/load-tf.ts';
import { circle, smallTrainer } from './small-trainer.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-optimizers-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const optimizers: Record<string, Partial<TrainingArguments>> = {
  sgd: { optim: 'sgd', learning_rate: 0.05 },
  "sgd with Nesterov's momentum": {
    optim: 'sgd',
    learning_rate: 0.05,
    momentum: 0.9,
    nesterov: true,
    weight_decay: 0.1,
  },
  lion: { optim: 'lion', learning_rate: 1e-3, weight_decay: 0.1 },
};
const kept: Record<string, string[]> = {
  sgd: ['ema', 'parameters'],
  "sgd with Nesterov's momentum": ['ema', 'first_moment', 'parameters'],
  lion: ['ema', 'first_moment', 'parameters'],
};

/** Three steps of two batches each, clipped, with an average: the reports and the state. */
async function threeSteps(
  args: Partial<TrainingArguments>,
  create: (...given: Parameters<typeof FusedBackend.create>) => Promise<ConstructorParameters<typeof Engine>[0]>,
) {
  const model = new ConditionalDense({ hidden_features: 16, num_hidden_layers: 1 });
  const resolved = resolveTrainingArguments({
    output_dir: 'unused',
    per_device_train_batch_size: 8,
    gradient_accumulation_steps: 2,
    max_grad_norm: 0.5,
    use_ema: true,
    ...args,
  });
  const settings = stepSettings(
    { model, loss: isoLoss({ lambda: 0.1 }), noise_scheduler: new DDPMScheduler() },
    resolved,
  );
  const schedule = stepSchedule(resolved, 3);
  const batches = new BatchStream(pointSamples(circle()), { batchSize: 16, trainTimesteps: 1000, seed: 0 });
  const parameters = initialVector(model, 0);
  const initial = new Map([
    ['parameters' as const, parameters],
    ['ema' as const, parameters.slice()],
  ]);
  const engine = new Engine(await create(settings, 'cpu', initial, batches, schedule), settings, batches, schedule);
  const reports = await engine.run(0, 3);
  const state = await engine.state();
  await engine.release();
  return { reports, state };
}

describe.each(Object.entries(optimizers))('%s', (name, args) => {
  it('takes the same steps by every backend, which keeps its moments alone', async () => {
    const expected = await threeSteps(args, FusedBackend.create);
    expect([...expected.state.keys()].sort()).toEqual(kept[name]);
    const backends = {
      host: (...[settings, , initial]: Parameters<typeof FusedBackend.create>) => HostBackend.create(settings, initial),
      device: (...[settings, device, initial]: Parameters<typeof FusedBackend.create>) =>
        DeviceBackend.create(settings, device, initial, { maxVectorElements: 300 }),
      tfjs: (...[settings, , initial]: Parameters<typeof FusedBackend.create>) =>
        TfjsBackend.create(asTfjs(tf), settings, initial),
    };
    for (const [backend, create] of Object.entries(backends)) {
      const actual = await threeSteps(args, create);
      expect([...actual.state.keys()].sort(), backend).toEqual(kept[name]);
      // Sums of float32 in another order.
      for (const [kind, vector] of expected.state)
        expect(largestError(actual.state.get(kind) ?? [], vector), `${backend}, ${kind}`).toBeLessThan(2e-6);
      actual.reports.forEach((report, i) => {
        const [found, wanted] = [report, expected.reports[i] ?? {}].map((row) => Object.values(row));
        expect(largestError(found ?? [], wanted ?? []), `${backend}, step ${i + 1}`).toBeLessThan(1e-5);
      });
    }
  });

  it('resumes to the same bits, and its checkpoint holds nothing else', async () => {
    const run = (place: string, max_steps: number) =>
      smallTrainer({ ...args, output_dir: path.join(folder, name, place), max_steps, report_to: [] });
    const whole = run('whole', 20);
    await whole.train();
    const stop = new AbortController();
    const broken = smallTrainer(
      { ...args, output_dir: path.join(folder, name, 'broken'), max_steps: 20, report_to: [] },
      [{ onSave: () => stop.abort() }],
    );
    await broken.train({ signal: stop.signal });
    const resumed = run('broken', 20);
    expect((await resumed.train({ resume_from_checkpoint: 'latest' })).global_step).toBe(20);
    expect(resumed.weights()).toEqual(whole.weights());
    expect(resumed.weights({ ema: true })).toEqual(whole.weights({ ema: true }));
    const checkpoint = path.join(folder, name, 'whole/checkpoint-20');
    const { tensors } = await readCheckpoint(checkpoint);
    expect([...tensors.keys()].sort()).toEqual(kept[name]);
    const parameters = [...whole.weights().values()].reduce((sum, { length }) => sum + length, 0);
    const bytes = statSync(path.join(checkpoint, 'state.safetensors')).size;
    expect(Math.floor(bytes / (4 * parameters))).toBe(kept[name]?.length);
    expect(readdirSync(checkpoint).sort()).toEqual(['state.safetensors', 'trainer_state.json']);
  });
});

it('a checkpoint of another optimizer is refused by name', async () => {
  const args = { output_dir: path.join(folder, 'another'), max_steps: 10, report_to: [] };
  await smallTrainer({ ...args, optim: 'lion' }).train();
  const other = smallTrainer({ ...args, max_steps: 20, optim: 'sgd', momentum: 0.9 });
  const resumed = other.train({ resume_from_checkpoint: 'latest' });
  await expect(resumed).rejects.toThrow(CheckpointError);
  await expect(resumed).rejects.toThrow('optim is "lion" there and "sgd" here');
});

describe('arguments', () => {
  const resolve = (args: Partial<TrainingArguments>) => resolveTrainingArguments({ output_dir: 'run', ...args });

  it('have the defaults of torch and of the paper, and those of the optimizer alone', () => {
    const of = (args: Partial<TrainingArguments>) =>
      Object.fromEntries(
        Object.entries(resolve(args)).filter(([key]) =>
          /^(optim|learning|weight|adam|momentum|nesterov|lion)/.test(key),
        ),
      );
    const adam = { adam_beta1: 0.9, adam_beta2: 0.999, adam_epsilon: 1e-8, learning_rate: 1e-3 };
    expect(of({})).toEqual({ optim: 'adam', weight_decay: 0, ...adam });
    expect(of({ optim: 'adamw' })).toEqual({ optim: 'adamw', weight_decay: 0.01, ...adam });
    const sgd = { optim: 'sgd', learning_rate: 1e-3, weight_decay: 0, momentum: 0, nesterov: false };
    expect(of({ optim: 'sgd' })).toEqual(sgd);
    const lion = { optim: 'lion', learning_rate: 1e-4, weight_decay: 0, lion_beta1: 0.9, lion_beta2: 0.99 };
    expect(of({ optim: 'lion' })).toEqual(lion);
  });

  it("take Hugging Face's names", () => {
    expect(resolve({ optim: 'adamw_torch' })).toEqual(resolve({ optim: 'adamw' }));
    expect(resolve({ optim: 'adamw_torch_fused' })).toEqual(resolve({ optim: 'adamw' }));
    expect(resolve({ optim: 'lion_32bit' })).toEqual(resolve({ optim: 'lion' }));
  });

  it.each<[Partial<TrainingArguments>, string]>([
    [{ momentum: 0.9 }, "momentum is 0.9, but belongs to optim 'sgd', not to 'adam': leave one of them out"],
    [{ optim: 'lion', adam_beta2: 0.95 }, "belongs to optim 'adam' and 'adamw', not to 'lion': use lion_beta2"],
    [{ optim: 'lion', adam_epsilon: 1e-3 }, 'leave one of them out'],
    [{ optim: 'sgd', lion_beta1: 0.9 }, "belongs to optim 'lion', not to 'sgd'"],
    [{ optim: 'sgd', nesterov: true }, 'there is no momentum: set momentum'],
    [{ optim: 'sgd', momentum: 1 }, 'momentum'],
    [{ optim: 'sgd', momentum: -0.1 }, 'momentum'],
    [{ optim: 'lion', lion_beta1: Number.NaN }, 'lion_beta1'],
    [{ optim: 'sgd', weight_decay: -1 }, 'weight_decay'],
    [{ optim: 'rmsprop' as 'sgd' }, 'optim'],
  ])('refuse %o', (args, message) => {
    expect(() => resolve(args)).toThrow(InvalidArgumentError);
    expect(() => resolve(args)).toThrow(message);
  });
});
