import { expect, it, vi } from 'vitest';
import { RuntimeExecutionError } from '../../src/errors.ts';
import { type BatchSpec, BatchStream } from '../../src/trainers/data/batch-stream.ts';
import { PrefetchedBatches } from '../../src/trainers/data/prefetched-batches.ts';
import { imageSamples, pointSamples } from '../../src/trainers/data/samples.ts';
import { circle } from './small-trainer.ts';
import { stripes } from './stripes.ts';

const batchesOf = () =>
  new BatchStream(imageSamples(stripes(), { random_flip: true }), {
    batchSize: 6,
    trainTimesteps: 1000,
    noiseOffset: 0.3,
    inputPerturbation: 0.1,
    seed: 5,
    classes: { classCount: 3, dropout: 0.4 },
  });

it('a worker prepares the same bits, from step to step and many steps at a time', async () => {
  const inline = batchesOf();
  const batches = batchesOf();
  const prefetched = new PrefetchedBatches(batches, batches.spec as BatchSpec);
  // Before the thread has started nothing waits for it.
  expect(await prefetched.steps(0, 1)).toEqual(inline.steps(0, 1));
  await prefetched.started;
  const prepared = vi.spyOn(batches, 'steps');
  let step = 1;
  for (const count of [1, 1, 3, 3, 1, 4]) {
    expect(await prefetched.steps(step, count)).toEqual(inline.steps(step, count));
    step += count;
  }
  // One before the thread was asked for the first time, and what a longer run needs than the one before it.
  expect(prepared.mock.calls.map(([first]) => first)).toEqual([1, 4, 5, 12, 13]);
  // As after a resume: a step that was not expected.
  expect(await prefetched.steps(40, 1)).toEqual(inline.steps(40, 1));
  await prefetched.close();
  await expect(prefetched.steps(41, 1)).rejects.toThrow(/it was closed/);
});

it('a worker crops images at random as they are cropped here', async () => {
  // Each image is larger than the samples, by different margins.
  const images = stripes();
  const cropped = {
    ...images,
    height: 5,
    width: 6,
    uncropped: (index: number) => {
      const height = 6 + (index % 3);
      return { pixels: images.pixels(index).slice(0, height * 8), height, width: 8 };
    },
  };
  const source = () =>
    new BatchStream(imageSamples(cropped, { random_flip: true }), { batchSize: 6, trainTimesteps: 1000, seed: 5 });
  const inline = source();
  const batches = source();
  const prefetched = new PrefetchedBatches(batches, batches.spec as BatchSpec);
  await prefetched.started;
  await prefetched.steps(0, 4);
  const prepared = vi.spyOn(batches, 'steps');
  expect(await prefetched.steps(4, 4)).toEqual(inline.steps(4, 4));
  expect(prepared).not.toHaveBeenCalled();
  await prefetched.close();
});

it('leaves a set alone whose pixels are views of one Buffer', async () => {
  const images = stripes();
  const size = images.channels * images.height * images.width;
  const bytes = Buffer.concat(Array.from({ length: images.count }, (_, i) => images.pixels(i).slice()));
  const views = { ...images, pixels: (index: number) => bytes.subarray(index * size, (index + 1) * size) };
  const source = () =>
    new BatchStream(imageSamples(views, { random_flip: true }), { batchSize: 6, trainTimesteps: 1000, seed: 5 });
  const batches = source();
  const prefetched = new PrefetchedBatches(batches, batches.spec as BatchSpec);
  await prefetched.started;
  await prefetched.steps(0, 2);
  expect(await prefetched.steps(2, 2)).toEqual(source().steps(2, 2));
  await prefetched.close();
});

it('passes on what goes wrong in the worker', async () => {
  const batches = batchesOf();
  const spec = batches.spec as BatchSpec;
  const prefetched = new PrefetchedBatches(batches, { ...spec, images: { ...spec.images, width: 9 } });
  await prefetched.started;
  await prefetched.steps(0, 1);
  await expect(prefetched.steps(1, 1)).rejects.toThrow(RuntimeExecutionError);
  await expect(prefetched.steps(1, 1)).rejects.toThrow(/thread that prepares batches failed.*8x9/);
  await prefetched.close();
});

it('points, which are only copied, need no worker', () => {
  expect(new BatchStream(pointSamples(circle()), { batchSize: 8, trainTimesteps: 1000, seed: 0 }).spec).toBeUndefined();
});
