import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { InvalidArgumentError, NonFiniteLossError } from '../../src/errors.ts';
import { isoLoss, simpleLoss } from '../../src/losses/index.ts';
import { ConditionalDense } from '../../src/models/conditional-dense.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { Trainer } from '../../src/trainers/trainer.ts';
import type { StepMetrics } from '../../src/trainers/trainer-callback.ts';
import { circle, smallTrainer } from './small-trainer.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'iso-trainer-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const inFolder = (name: string) => path.join(folder, name);

describe('Trainer', () => {
  it('lowers the loss, calls back, logs and keeps the limit of checkpoints', async () => {
    const output_dir = inFolder('learns');
    const logged: StepMetrics[] = [];
    const events: string[] = [];
    const trainer = smallTrainer({ output_dir, max_steps: 300, logging_steps: 50, save_steps: 100 }, [
      {
        onTrainBegin: () => void events.push('begin'),
        onStep: (_state, metrics) => void logged.push(metrics),
        onEpoch: (state) => void events.push(`epoch ${state.epoch}`),
        onSave: (state, directory) => void events.push(`save ${state.global_step} ${path.basename(directory)}`),
        onTrainEnd: () => void events.push('end'),
      },
    ]);
    const output = await trainer.train();
    expect(output).toMatchObject({ global_step: 300, interrupted: false });
    expect(logged).toHaveLength(6);
    expect(logged.at(-1)?.loss).toBeLessThan((logged[0]?.loss ?? 0) * 0.8);
    const terms = ['base_loss', 'isotropy', 'isotropy_penalty', 'weighted_isotropy_penalty'];
    for (const metrics of logged) {
      expect(Object.keys(metrics)).toEqual(['loss', ...terms, 'grad_norm', 'learning_rate']);
      const { loss, base_loss = 0, isotropy_penalty = 0, weighted_isotropy_penalty = 0 } = metrics;
      expect(Math.abs(loss - base_loss - weighted_isotropy_penalty)).toBeLessThan(1e-5);
      expect(Math.abs(weighted_isotropy_penalty - 0.1 * isotropy_penalty)).toBeLessThan(1e-5);
    }
    expect(events).toEqual(
      expect.arrayContaining([
        'begin',
        'epoch 1',
        'epoch 60',
        'save 100 checkpoint-100',
        'save 300 checkpoint-300',
        'end',
      ]),
    );
    expect(
      readdirSync(output_dir)
        .filter((name) => name.startsWith('checkpoint-'))
        .sort(),
    ).toEqual(['checkpoint-200', 'checkpoint-300']);
    const lines = readFileSync(path.join(output_dir, 'metrics.jsonl'), 'utf8').trim().split('\n');
    expect(lines.map((line) => JSON.parse(line).step)).toEqual([50, 100, 150, 200, 250, 300]);
    expect(readdirSync(path.join(output_dir, 'tensorboard'))).toHaveLength(1);
  });

  it('gives the same bits for the same seed, other bits for another', async () => {
    const train = async (seed: number) => {
      const trainer = smallTrainer({
        output_dir: inFolder(`seed-${seed}-${Math.random()}`),
        max_steps: 20,
        seed,
      });
      await trainer.train();
      return [...trainer.weights().values()];
    };
    const first = await train(1);
    expect(await train(1)).toEqual(first);
    expect(await train(2)).not.toEqual(first);
  });

  it('with lambda = 0 trains exactly as the simple loss', async () => {
    const train = async (loss: ReturnType<typeof simpleLoss>) => {
      const args = {
        output_dir: inFolder(`lambda-${Math.random()}`),
        max_steps: 30,
        per_device_train_batch_size: 32,
        device: 'cpu' as const,
      };
      const trainer = new Trainer({
        model: new ConditionalDense({ hidden_features: 16 }),
        args,
        train_dataset: circle(),
        loss,
        noise_scheduler: new DDPMScheduler(),
      });
      await trainer.train();
      return trainer.weights();
    };
    expect(await train(isoLoss({ lambda: 0 }))).toEqual(await train(simpleLoss()));
  });

  it('stops at a loss that is not finite, names the step and sets its checkpoint aside', async () => {
    const output_dir = inFolder('diverges');
    await smallTrainer({
      output_dir,
      max_steps: 20,
      learning_rate: 3e37,
      warmup_steps: 12,
      max_grad_norm: 0,
      lr_scheduler_type: 'constant',
      save_steps: 1,
      adam_epsilon: 1e-8,
    })
      .train()
      .then(
        () => expect.unreachable('the run should diverge'),
        (error: unknown) => {
          expect(error).toBeInstanceOf(NonFiniteLossError);
          const { step, message } = error as NonFiniteLossError;
          expect(message).toContain(`step ${step}`);
          const aside = `diverged-checkpoint-${step - 1}`;
          expect(message).toContain(aside);
          expect(existsSync(path.join(output_dir, aside, 'trainer_state.json'))).toBe(true);
          expect(existsSync(path.join(output_dir, `checkpoint-${step - 1}`))).toBe(false);
          expect(message).toContain(`resume from ${path.join(output_dir, `checkpoint-${step - 2}`)}`);
          expect(existsSync(path.join(output_dir, `checkpoint-${step}`))).toBe(false);
        },
      );
  });

  it('when aborted finishes its step, saves and goes on later to the same weights', async () => {
    const controller = new AbortController();
    const output_dir = inFolder('aborted');
    const stopAt20 = {
      onStep: (state: { global_step: number }) => void (state.global_step >= 20 && controller.abort()),
    };
    const first = await smallTrainer({ output_dir, max_steps: 60 }, [stopAt20]).train({
      signal: controller.signal,
    });
    expect(first.interrupted).toBe(true);
    expect(existsSync(path.join(output_dir, `checkpoint-${first.global_step}`))).toBe(true);

    const resumed = smallTrainer({ output_dir, max_steps: 60 });
    await resumed.train({ resume_from_checkpoint: 'latest' });
    const unbroken = smallTrainer({ output_dir: inFolder('not-aborted'), max_steps: 60 });
    await unbroken.train();
    expect(resumed.weights({ ema: true })).toEqual(unbroken.weights({ ema: true }));
  });

  it('refuses wrong arguments before any work', () => {
    const output_dir = inFolder('never-made');
    expect(() => smallTrainer({ output_dir, learning_rate: Number.NaN })).toThrow(InvalidArgumentError);
    expect(() => smallTrainer({ output_dir, num_train_epochs: 1.5 })).toThrow(/num_train_epochs/);
    expect(() => smallTrainer({ output_dir, optim: 'adam', weight_decay: 0.1 })).toThrow(/use optim 'adamw'/);
    expect(() => smallTrainer({ output_dir }, [], { ...circle(), dims: 3, count: 100 })).toThrow(/in_features: 3/);
    expect(existsSync(output_dir)).toBe(false);
  });
});
