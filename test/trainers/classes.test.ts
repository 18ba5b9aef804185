import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { isoLoss } from '../../src/losses/index.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import { DDIMScheduler, DDPMScheduler } from '../../src/schedulers/index.ts';
import { Trainer } from '../../src/trainers/trainer.ts';
import type { TrainingArguments } from '../../src/trainers/training-arguments.ts';
import { plainLevels, tinyUNet } from '../models/tiny-unet.ts';
import { stripes } from './stripes.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-classes-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Two classes: bright on the left, and on the right. */
function leftAndRight() {
  const set = stripes();
  const half = (side: number) => Uint8Array.from({ length: 64 }, (_, p) => (p % 8 < 4 === (side === 0) ? 230 : 25));
  const images = [half(0), half(1)];
  return { ...set, pixels: (index: number) => images[set.labels?.[index] ?? 0] as Uint8Array };
}
function trainer(name: string, classes: number | null, args: Partial<TrainingArguments> = {}, labelled = true) {
  const set = leftAndRight();
  return new Trainer({
    model: tinyUNet({ ...plainLevels, num_class_embeds: classes }),
    args: {
      output_dir: path.join(folder, name),
      max_steps: 400,
      per_device_train_batch_size: 16,
      learning_rate: 4e-3,
      device: 'cpu',
      ...args,
    },
    train_dataset: labelled ? set : { ...set, labels: undefined },
    loss: isoLoss({ lambda: 0.05 }),
    noise_scheduler: new DDPMScheduler(),
  });
}

describe('class conditioning', () => {
  it('draws the class that is asked for, and guides between it and none', async () => {
    const run = trainer('both', 3, { class_dropout_prob: 0.2 });
    await run.train();
    const target = path.join(folder, 'both/pipeline');
    await run.savePipeline(target);
    const generate = await pipeline('unconditional-image-generation', target, { device: 'cpu' });
    /** Mean of the right half less that of the left, for each of 8 images. */
    const contrast = async (class_labels: number | number[], guidance_scale: number) => {
      const { data } = await generate({
        batch_size: 8,
        class_labels,
        guidance_scale,
        num_inference_steps: 20,
        scheduler: new DDIMScheduler(),
        output_type: 'uint8',
      });
      return Array.from({ length: 8 }, (_, i) =>
        data.subarray(i * 64, (i + 1) * 64).reduce((sum, x, p) => sum + (p % 8 < 4 ? -x : x) / 32, 0),
      );
    };
    const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    const [left, right] = [mean(await contrast(0, 1)), mean(await contrast(1, 1))];
    // -205 and 205 in the data; a model without classes would draw either for both.
    expect(left).toBeLessThan(-60);
    expect(right).toBeGreaterThan(60);
    // u + 0 (c - u): the prediction for the class that stands for none.
    expect(await contrast(1, 0)).toEqual(await contrast(2, 1));
    expect(await contrast(1, 1.2)).not.toEqual(await contrast(1, 1));
    const mixed = await contrast([0, 1, 0, 1, 0, 1, 0, 1], 1);
    expect(mixed.every((value, i) => (i % 2 === 1 ? value > 0 : value < 0))).toBe(true);
    await expect(generate({ num_inference_steps: 2 })).rejects.toThrow(/give class_labels/);
    await expect(generate({ class_labels: 3, num_inference_steps: 2 })).rejects.toThrow(InvalidArgumentError);
    await generate.dispose();
  });

  it('is the same in steps of several batches', async () => {
    const rows = (accumulation: number) => {
      const run = trainer(`parts-${accumulation}`, 3, {
        max_steps: 3,
        class_dropout_prob: 0.2,
        per_device_train_batch_size: 16 / accumulation,
        gradient_accumulation_steps: accumulation,
      });
      return run.train().then(() => run.weights().get('class_embedding.weight') ?? new Float32Array());
    };
    const [whole, parts] = [await rows(1), await rows(2)];
    // The iso penalty is taken over each batch, so that the steps are close, not equal.
    const difference = Math.hypot(...whole.map((value, i) => value - (parts[i] as number)));
    expect(difference).toBeLessThan(0.02 * Math.hypot(...whole));
    expect(difference).toBeGreaterThan(0);
  });

  it.each([
    ['labels that are missing', () => trainer('a', 2, {}, false), /has no labels/],
    ['labels beyond the classes', () => trainer('b', 1), /has the label 1/],
    ['no class left for none', () => trainer('c', 2, { class_dropout_prob: 0.1 }), /one more with class_dropout_prob/],
    ['dropout without classes', () => trainer('d', null, { class_dropout_prob: 0.1 }), /no num_class_embeds/],
  ])('refuses %s', (_name, make, message) => {
    expect(make).toThrow(InvalidArgumentError);
    expect(make).toThrow(message);
  });
});
