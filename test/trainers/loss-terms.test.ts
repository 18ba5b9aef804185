import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { writeTrainingPlots } from '../../src/cli/ui/training.ts';
import { CheckpointError, GraphError, InvalidArgumentError, NonFiniteLossError } from '../../src/errors.ts';
import type { Value } from '../../src/graph/graph.ts';
import { abs, mul, reduceMax, reduceMean, square, sub } from '../../src/graph/ops/index.ts';
import { scalarLike } from '../../src/graph/registry.ts';
import { defineLoss, hybridLoss, type LossInputs, regressionTarget } from '../../src/losses/index.ts';
import { ConditionalDense } from '../../src/models/index.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { metricsText } from '../../src/trainers/progress-line.ts';
import { Trainer } from '../../src/trainers/trainer.ts';
import type { StepMetrics } from '../../src/trainers/trainer-callback.ts';
import type { TrainerOptions } from '../../src/trainers/trainer-options.ts';
import { MetricsWindow } from '../../src/trainers/training-loop.ts';
import { tinyUNet } from '../models/tiny-unet.ts';
import { circle } from './small-trainer.ts';
import { stripes } from './stripes.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-terms-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A user's loss: half the squared error, and its largest element as a term. */
function ownLoss(
  terms: (error: Value) => Record<string, Value> = (error) => ({ 'own/largest': reduceMax(abs(error)) }),
) {
  return defineLoss({ name: 'own' }, (inputs: LossInputs) => {
    const error = sub(inputs.modelOutput, regressionTarget(inputs));
    const mean = reduceMean(square(error));
    return { loss: mul(mean, scalarLike(mean, 0.5)), terms: terms(error) };
  });
}

function trainer(name: string, changes: Partial<TrainerOptions> = {}, args = {}, rows: StepMetrics[] = []) {
  return new Trainer({
    model: new ConditionalDense({ hidden_features: 8 }),
    args: {
      output_dir: path.join(folder, name),
      max_steps: 6,
      per_device_train_batch_size: 16,
      device: 'cpu',
      logging_steps: 2,
      save_steps: 3,
      ...args,
    },
    train_dataset: circle(),
    loss: ownLoss(),
    noise_scheduler: new DDPMScheduler(),
    callbacks: [{ onStep: (_state, metrics) => void rows.push(metrics) }],
    ...changes,
  });
}

const logOf = (name: string): Record<string, number>[] =>
  readFileSync(path.join(folder, name, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

describe("a user's term", () => {
  it('reaches callbacks, the log, TensorBoard, the plots and the console under its name', async () => {
    const rows: StepMetrics[] = [];
    const own = trainer('own', {}, {}, rows);
    const { metrics } = await own.train();
    expect(rows).toHaveLength(3);
    expect(Object.keys(rows[0] ?? {})).toEqual(['loss', 'own/largest', 'grad_norm', 'learning_rate']);
    // The largest of 32 errors, against the root of their mean square.
    for (const row of rows) expect(row['own/largest']).toBeGreaterThan(Math.sqrt(2 * row.loss));
    expect(metrics).toEqual(rows.at(-1));
    logOf('own').forEach(({ step: _, epoch: __, steps_per_second: ___, ...record }, i) => {
      expect(record).toEqual(rows[i]);
    });
    const [events = ''] = readdirSync(path.join(folder, 'own/tensorboard'));
    expect(readFileSync(path.join(folder, 'own/tensorboard', events)).includes('own/largest')).toBe(true);
    const plots = await writeTrainingPlots(path.join(folder, 'own'), 'own');
    expect(plots.map((file) => path.basename(file))).toContain('own-largest.svg');
    expect(metricsText({ ...metrics })).toMatch(/^loss [\d.]+, own\/largest [\d.]+, grad_norm/);
  });

  it('is summed by batches, and its sum survives an interruption', async () => {
    const args = { gradient_accumulation_steps: 2 };
    const whole: StepMetrics[] = [];
    await trainer('whole', {}, args, whole).train();
    // Stopped at the checkpoint of step 3, in the middle of the steps 3 and 4, which are logged together.
    const stop = new AbortController();
    const callbacks = [{ onSave: () => stop.abort() }];
    const { interrupted } = await trainer('parts', { callbacks }, args).train({ signal: stop.signal });
    expect(interrupted).toBe(true);
    const parts: StepMetrics[] = [];
    await trainer('parts', {}, args, parts).train({ resume_from_checkpoint: 'latest' });
    expect(parts).toEqual(whole.slice(1));
  });
});

it('a hybrid loss reports its bound', async () => {
  const rows: StepMetrics[] = [];
  const loss = hybridLoss({ vlb_weight: 0.01 });
  const model = tinyUNet({ out_channels: 2 });
  const changes = { model, loss, train_dataset: stripes() };
  await trainer('hybrid', changes, { max_steps: 2, per_device_train_batch_size: 2 }, rows).train();
  const { loss: total = 0, base_loss = 0, variational_bound = 0 }: Record<string, number> = rows[0] ?? {};
  expect(variational_bound).toBeGreaterThan(0);
  // 1,000 timesteps times the weight.
  expect(Math.abs(base_loss + 10 * variational_bound - total)).toBeLessThan(1e-4 * total);
});

describe('before training starts', () => {
  it.each([
    ['a name of the trainer', (error: Value) => ({ grad_norm: reduceMean(error) }), InvalidArgumentError, /grad_norm/],
    ['a name with spaces', (error: Value) => ({ 'my term': reduceMean(error) }), InvalidArgumentError, /"my term"/],
    ['a number for a name', (error: Value) => ({ 7: reduceMean(error) }), InvalidArgumentError, /"7"/],
    ['a term that is no scalar', (error: Value) => ({ error }), GraphError, /error is float32 \[16, 2\]/],
  ] as const)('%s is refused, and nothing is written', async (name, terms, Failure, message) => {
    for (const accumulation of [1, 2]) {
      const args = { gradient_accumulation_steps: accumulation };
      const training = trainer(name, { loss: ownLoss(terms) }, args).train();
      await expect(training).rejects.toThrow(Failure);
      await expect(training).rejects.toThrow(message);
      expect(existsSync(path.join(folder, name))).toBe(false);
    }
  });
});

it('a term that is not finite ends the run, with every term by its name', async () => {
  const infinite = ownLoss((error) => ({
    huge: mul(reduceMax(abs(error)), scalarLike(error, 3e38)),
    fine: reduceMean(error),
  }));
  const training = trainer('infinite', { loss: infinite }).train();
  await expect(training).rejects.toThrow(NonFiniteLossError);
  await expect(training).rejects.toThrow(/at step 1: loss [\d.]+, huge Infinity, fine -?[\d.]+, grad_norm [\d.]+/);
});

describe('a metrics window', () => {
  const names = ['loss', 'own'];

  it('adds up by name and goes through JSON', () => {
    const window = new MetricsWindow(names);
    window.add({ loss: 1, own: 2 });
    const other = new MetricsWindow(names);
    other.restore(JSON.parse(JSON.stringify(window)));
    other.add({ own: 4, loss: 2 });
    expect(other.means()).toEqual({ loss: 1.5, own: 3 });
    other.clear();
    other.add({ loss: 7, own: 8 });
    expect(other.means()).toEqual({ loss: 7, own: 8 });
  });

  it.each([
    ['that of an earlier version', [3, 1, 2, 3, 4, 5]],
    ['that of other terms', { steps: 1, sums: { loss: 1, bound: 2 } }],
    ['one with a term more', { steps: 1, sums: { loss: 1, own: 2, bound: 2 } }],
    ['nothing', undefined],
  ])('refuses %s', (_, saved) => {
    expect(() => new MetricsWindow(names).restore(saved)).toThrow(CheckpointError);
  });
});
