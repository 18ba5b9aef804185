import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { exportModelGraph, initialParameters, UNet2DModel } from '../../src/models/index.ts';
import type { TrainingArguments } from '../../src/trainers/training-arguments.ts';
import { smallImageTrainer } from './small-image-trainer.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-dropout-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** In one graph in a Loop, and split into gradients and update. */
const engines = [1, 2];
const trainer = (name: string, batches: number, dropout: number, args: Partial<TrainingArguments> = {}) =>
  smallImageTrainer(
    {
      output_dir: path.join(folder, name),
      max_steps: 6,
      gradient_accumulation_steps: batches,
      lr_scheduler_type: 'constant',
      ...args,
    },
    [],
    0.1,
    { dropout },
  );
const digest = (weights: Map<string, Float32Array>) => [...weights.values()].map((values) => [...values]);

describe.each(engines)('dropout in training, %i batches a step', (batches) => {
  it('repeats bit for bit, changes with the probability, and resumes as if unbroken', async () => {
    const [first, second, none] = [
      trainer(`first-${batches}`, batches, 0.2),
      trainer(`second-${batches}`, batches, 0.2),
      trainer(`none-${batches}`, batches, 0),
    ];
    await first.train();
    await second.train();
    await none.train();
    expect(digest(second.weights())).toEqual(digest(first.weights()));
    expect(digest(none.weights())).not.toEqual(digest(first.weights()));

    await trainer(`broken-${batches}`, batches, 0.2, { max_steps: 4 }).train();
    const resumed = trainer(`broken-${batches}`, batches, 0.2);
    await resumed.train({ resume_from_checkpoint: 'latest' });
    expect(digest(resumed.weights())).toEqual(digest(first.weights()));
    expect(digest(resumed.weights({ ema: true }))).toEqual(digest(first.weights({ ema: true })));
  });
});

it('is in no exported graph', () => {
  const exported = [0, 0.2].map((dropout) => {
    const model = new UNet2DModel({
      sample_size: 8,
      block_out_channels: [8],
      down_block_types: ['DownBlock2D'],
      up_block_types: ['UpBlock2D'],
      norm_num_groups: 4,
      dropout,
    });
    return exportModelGraph(model, initialParameters(model, 0)).nodes.map(({ opType }) => opType);
  });
  expect(exported[1]).toEqual(exported[0]);
});
