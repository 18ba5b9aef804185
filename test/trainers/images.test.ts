import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import type { StepMetrics } from '../../src/trainers/trainer-callback.ts';
import { smallImageTrainer } from './small-image-trainer.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-images-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Trains 6 steps and returns the weights, averaged ones too, and the metrics of every step. */
async function train(name: string, batch: number, accumulation: number, lambda: number) {
  const rows: StepMetrics[] = [];
  const trainer = smallImageTrainer(
    {
      output_dir: path.join(folder, name),
      max_steps: 6,
      logging_steps: 1,
      per_device_train_batch_size: batch,
      gradient_accumulation_steps: accumulation,
      max_grad_norm: 0.5,
    },
    [{ onStep: (_state, metrics) => void rows.push(metrics) }],
    lambda,
  );
  await trainer.train();
  return { rows, weights: trainer.weights(), ema: trainer.weights({ ema: true }) };
}

function largestDifference(a: Map<string, Float32Array>, b: Map<string, Float32Array>): number {
  let largest = 0;
  for (const [name, values] of a)
    values.forEach((value, i) => {
      largest = Math.max(largest, Math.abs(value - (b.get(name)?.[i] ?? Number.NaN)));
    });
  return largest;
}

describe('several batches a step', () => {
  it('make the step of one large batch, for a loss that is a mean over samples', async () => {
    const whole = await train('whole', 8, 1, 0);
    const parts = await train('parts', 2, 4, 0);
    // The whole step runs in one graph in a Loop, the parts in the split engine. Adam divides gradients by their own
    // size, so that rounding may move a weight with a tiny gradient by a good part of the step, 1e-3.
    expect(largestDifference(parts.weights, whole.weights)).toBeLessThan(2e-4);
    expect(largestDifference(parts.ema, whole.ema)).toBeLessThan(2e-4);
    parts.rows.forEach((row, i) => {
      expect(row.loss).toBeCloseTo(whole.rows[i]?.loss ?? Number.NaN, 4);
      expect(row.grad_norm).toBeCloseTo(whole.rows[i]?.grad_norm ?? Number.NaN, 3);
    });
  });

  it('take the expectation of the iso loss over each batch', async () => {
    const { rows } = await train('iso', 2, 4, 0.5);
    for (const { loss, base_loss = 0, isotropy_penalty = 0 } of rows)
      expect(loss).toBeCloseTo(base_loss + 0.5 * isotropy_penalty, 5);
  });

  it('repeat bit for bit', async () => {
    const [first, second] = [await train('first', 2, 2, 0.1), await train('second', 2, 2, 0.1)];
    expect(largestDifference(first.weights, second.weights)).toBe(0);
  });
});

it('refuses steps of no batch', () => {
  expect(() => smallImageTrainer({ output_dir: folder, gradient_accumulation_steps: 0 })).toThrow(InvalidArgumentError);
});
