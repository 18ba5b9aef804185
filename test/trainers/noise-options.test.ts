import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { CheckpointError, InvalidArgumentError } from '../../src/errors.ts';
import { reduceMean } from '../../src/graph/ops/reduce.ts';
import { defineLoss, regressionTarget, simpleLoss } from '../../src/losses/index.ts';
import { ConditionalDense } from '../../src/models/conditional-dense.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { BatchStream } from '../../src/trainers/data/batch-stream.ts';
import { imageSamples, pointSamples } from '../../src/trainers/data/samples.ts';
import { Trainer } from '../../src/trainers/trainer.ts';
import type { StepMetrics } from '../../src/trainers/trainer-callback.ts';
import { resolveTrainingArguments } from '../../src/trainers/training-arguments.ts';
import { circle, smallTrainer } from './small-trainer.ts';
import { stripes } from './stripes.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-noise-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The stripes as images of three channels. */
function colours() {
  const images = stripes();
  const pixels = (index: number) =>
    Uint8Array.from([0, 1, 2].flatMap((c) => [...images.pixels(index)].map((x) => x >> c)));
  return imageSamples({ ...images, channels: 3, pixels }, { random_flip: false });
}
const draws = { batchSize: 8, trainTimesteps: 1000, seed: 3 };
const difference = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a, (value, i) => value - (b[i] ?? Number.NaN));
const meanSquare = (values: readonly number[]) => values.reduce((sum, x) => sum + x * x, 0) / values.length;

describe('noise_offset', () => {
  it("adds one normal number a channel, as diffusers' scripts: noise += offset * randn(batch, channels, 1, 1)", () => {
    const plain = new BatchStream(colours(), draws).steps(0, 10);
    const offset = new BatchStream(colours(), { ...draws, noiseOffset: 0.5 }).steps(0, 10);
    expect([offset.clean, offset.timestep]).toEqual([plain.clean, plain.timestep]);
    const shifts = difference(offset.noise, plain.noise).map((shift) => shift / 0.5);
    const channels = Array.from({ length: shifts.length / 64 }, (_, i) => shifts.slice(64 * i, 64 * (i + 1)));
    expect(
      Math.max(...channels.flatMap((shift) => shift.map((x) => Math.abs(x - (shift[0] ?? Number.NaN))))),
    ).toBeLessThan(2e-6);
    const numbers = channels.map(([first = 0]) => first);
    expect(new Set(numbers.map((x) => x.toFixed(5))).size).toBeGreaterThan(235);
    // Of 240 normal numbers the mean square is within five standard errors, sqrt(2 / 240), of 1.
    expect(Math.abs(meanSquare(numbers) - 1)).toBeLessThan(0.46);
  });

  it('adds one number for the whole of a point', () => {
    const plain = new BatchStream(pointSamples(circle()), draws).steps(0, 2);
    const offset = new BatchStream(pointSamples(circle()), { ...draws, noiseOffset: 0.5 }).steps(0, 2);
    const shifts = difference(offset.noise, plain.noise);
    for (let i = 0; i < shifts.length; i += 2) expect(shifts[i + 1]).toBeCloseTo(shifts[i] as number, 5);
    expect(new Set(shifts.map((x) => x.toFixed(4))).size).toBe(16);
  });
});

describe('input_perturbation', () => {
  it("adds noise to x_t alone, as diffusers' scripts: new_noise = noise + gamma * randn_like(noise)", () => {
    const offset = new BatchStream(colours(), { ...draws, noiseOffset: 0.5 }).steps(0, 2);
    const both = new BatchStream(colours(), { ...draws, noiseOffset: 0.5, inputPerturbation: 0.1 }).steps(0, 2);
    expect(offset.input_noise).toBeUndefined();
    expect(both.noise).toEqual(offset.noise);
    const added = difference(both.input_noise ?? [], both.noise).map((x) => x / 0.1);
    expect(Math.abs(meanSquare(added) - 1)).toBeLessThan(5 * Math.sqrt(2 / added.length));
    // The offset, the noise and what is added to it are of streams of their own.
    const product = added.reduce((sum, x, i) => sum + x * (both.noise[i] as number), 0) / added.length;
    expect(Math.abs(product)).toBeLessThan(5 * Math.sqrt(1.25 / added.length));
  });
});

describe('a trainer', () => {
  /** Reports the means of x_t, of what the model is asked for, and of the noise in x_t. */
  const means = defineLoss({ name: 'means' }, (inputs) => ({
    loss: simpleLoss()(inputs).loss,
    terms: {
      x: reduceMean(inputs.noisySample),
      target: reduceMean(regressionTarget(inputs)),
      input_noise: reduceMean(inputs.inputNoise ?? inputs.epsilon),
    },
  }));

  it.each([
    ['one batch in the Loop', 1],
    ['two batches on the host', 2],
  ])('noises samples with the one noise, and asks for the other: %s', async (name, batches) => {
    const rows: StepMetrics[] = [];
    const noise_scheduler = new DDPMScheduler();
    await new Trainer({
      model: new ConditionalDense({ hidden_features: 8, num_hidden_layers: 1 }),
      args: {
        output_dir: path.join(folder, name),
        max_steps: 2,
        per_device_train_batch_size: 8 / batches,
        gradient_accumulation_steps: batches,
        noise_offset: 0.5,
        input_perturbation: 0.2,
        seed: 3,
        logging_steps: 1,
        report_to: [],
        device: 'cpu',
      },
      train_dataset: circle(),
      loss: means,
      noise_scheduler,
      callbacks: [{ onStep: (_state, metrics) => void rows.push(metrics) }],
    }).train();
    const stream = new BatchStream(pointSamples(circle()), { ...draws, noiseOffset: 0.5, inputPerturbation: 0.2 });
    for (const [step, row] of rows.entries()) {
      const { clean, noise, input_noise = noise, timestep } = stream.steps(step, 1);
      const x = noise_scheduler.addNoise(clean, input_noise, [...timestep], 2);
      const mean = (values: ArrayLike<number>) => Array.from(values).reduce((sum, value) => sum + value, 0) / 16;
      expect(row.x).toBeCloseTo(mean(x), 5);
      expect(row.target).toBeCloseTo(mean(noise), 5);
      expect(row.input_noise).toBeCloseTo(mean(input_noise), 5);
    }
    expect(rows).toHaveLength(2);
  });

  it('that is stopped goes on to the same bits, and with no other noise', async () => {
    const args = { noise_offset: 0.1, input_perturbation: 0.1, max_steps: 20, report_to: [] };
    const whole = smallTrainer({ ...args, output_dir: path.join(folder, 'whole') });
    await whole.train();
    const stop = new AbortController();
    const output_dir = path.join(folder, 'stopped');
    await smallTrainer({ ...args, output_dir }, [{ onSave: () => stop.abort() }]).train({ signal: stop.signal });
    const resume_from_checkpoint = 'latest';
    for (const [other, message] of [
      [{ noise_offset: 0 }, 'noise_offset is 0.1 there and absent here'],
      [{ input_perturbation: 0.2 }, 'input_perturbation is 0.1 there and 0.2 here'],
    ] as const) {
      const refused = smallTrainer({ ...args, ...other, output_dir }).train({ resume_from_checkpoint });
      await expect(refused).rejects.toThrow(CheckpointError);
      await expect(refused).rejects.toThrow(message);
    }
    const resumed = smallTrainer({ ...args, output_dir });
    await resumed.train({ resume_from_checkpoint });
    expect(resumed.weights()).toEqual(whole.weights());
    // Both options count.
    const plain = smallTrainer({ max_steps: 20, report_to: [], output_dir: path.join(folder, 'plain') });
    await plain.train();
    expect(plain.weights()).not.toEqual(whole.weights());
  });

  it('samples that were drawn without these options are drawn as before', () => {
    const zero = { noiseOffset: 0, inputPerturbation: 0 };
    expect(new BatchStream(colours(), { ...draws, ...zero }).steps(5, 2)).toEqual(
      new BatchStream(colours(), draws).steps(5, 2),
    );
    expect(new RandomStream(3, 12, 0).uint32()).not.toBe(new RandomStream(3, 13, 0).uint32());
  });
});

it.each([
  { noise_offset: -0.1 },
  { noise_offset: Number.NaN },
  { input_perturbation: -0.1 },
  { input_perturbation: Number.POSITIVE_INFINITY },
])('arguments refuse %o', (wrong) => {
  expect(() => resolveTrainingArguments({ output_dir: 'run', ...wrong })).toThrow(InvalidArgumentError);
});
