// Samples depend on their seed alone, whatever else is drawn at the same time; schedules stay finite.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ConditionalDense,
  DDIMScheduler,
  DDPMScheduler,
  isoLoss,
  loadPoints,
  pipeline,
  Trainer,
  type UnconditionalImageGenerationPipeline,
  type UnconditionalPointGenerationPipeline,
} from '../../src/index.ts';
import { smallImageTrainer } from '../trainers/small-image-trainer.ts';

let folder: string;
let images: UnconditionalImageGenerationPipeline;
let points: UnconditionalPointGenerationPipeline;
beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'iso-seeds-'));
  const drawn = smallImageTrainer({ output_dir: path.join(folder, 'images'), max_steps: 1, report_to: [] });
  await drawn.train();
  await drawn.savePipeline(path.join(folder, 'images/pipeline'));
  images = await pipeline('unconditional-image-generation', path.join(folder, 'images/pipeline'), { device: 'cpu' });
  const placed = new Trainer({
    model: new ConditionalDense({ hidden_features: 16, num_hidden_layers: 1 }),
    args: { output_dir: path.join(folder, 'points'), max_steps: 1, device: 'cpu', report_to: [] },
    train_dataset: await loadPoints('moons', { n: 64 }),
    loss: isoLoss({ lambda: 0.1 }),
    noise_scheduler: new DDPMScheduler(),
  });
  await placed.train();
  await placed.savePipeline(path.join(folder, 'points/pipeline'));
  points = await pipeline('unconditional-point-generation', path.join(folder, 'points/pipeline'), { device: 'cpu' });
});
afterAll(async () => {
  await images.dispose();
  await points.dispose();
  rmSync(folder, { recursive: true, force: true });
});

const tensor = async (options: object): Promise<Float32Array> => {
  const { data } = await images({ num_inference_steps: 4, ...options, output_type: 'tensor' });
  return data as Float32Array;
};

describe('one options object, changed between calls that are not awaited', () => {
  const kinds: [string, (options: object) => Promise<Iterable<number>>][] = [
    ['image', async (options) => (await images({ ...options, output_type: 'image' })).data],
    ['tensor', tensor],
    ['uint8', async (options) => (await images({ ...options, output_type: 'uint8' })).data],
    ['points', async (options) => (await points(options)).points],
  ];
  it.each(kinds)('%s: each call draws with the seed that it was given', async (_, draw) => {
    const options = { num_inference_steps: 4, seed: 0 };
    const calls = [0, 1, 2].map((seed) => draw(Object.assign(options, { seed })));
    const drawn = await Promise.all(calls);
    for (const seed of [0, 1, 2])
      expect([...(drawn[seed] ?? [])]).toEqual([...(await draw({ num_inference_steps: 4, seed }))]);
  });

  it('a list of seeds, the scheduler and its config may change too', async () => {
    const seeds = Array.from({ length: 20 }, (_, i) => i);
    const expected = await tensor({ seed: [...seeds], batch_size: 20 });
    const call = tensor({ seed: seeds, batch_size: 20 });
    seeds.fill(99);
    const { scheduler } = images;
    images.scheduler = new DDIMScheduler();
    // The second sixteen of the images begin long after this.
    Object.assign(scheduler.config, { prediction_type: 'sample' });
    expect(await call).toEqual(expected);
    Object.assign(scheduler.config, { prediction_type: 'epsilon' });
    images.scheduler = scheduler;
  });
});

it('an image depends on its seed alone, in batches of 1, 5 and 40, in a list, and beside other calls', async () => {
  const [one, five, forty, list] = [
    await tensor({ seed: 7 }),
    await tensor({ seed: 7, batch_size: 5 }),
    await tensor({ seed: 7, batch_size: 40 }),
    await tensor({ seed: [8, 7], batch_size: 2 }),
  ];
  const size = one.length;
  for (const drawn of [five.slice(0, size), forty.slice(0, size), list.slice(size)]) expect(drawn).toEqual(one);
  expect(forty.slice(size, 2 * size)).toEqual(five.slice(size, 2 * size));
  const options = [{ seed: 1 }, { seed: 1, num_inference_steps: 9 }];
  const [first, second] = await Promise.all(options.map(tensor));
  expect(first).toEqual(await tensor(options[0] ?? {}));
  expect(second).toEqual(await tensor(options[1] ?? {}));
});

describe('every schedule of betas', () => {
  it.each(['linear', 'scaled_linear', 'squaredcos_cap_v2', 'sigmoid'] as const)(
    '%s ends finite for T from 1 to 1000',
    (beta_schedule) => {
      for (const num_train_timesteps of [1, 2, 4, 10, 100, 1000])
        for (const variance_type of ['fixed_small', 'fixed_large', 'fixed_small_log', 'fixed_large_log'] as const) {
          const scheduler = new DDPMScheduler({ beta_schedule, num_train_timesteps, variance_type });
          scheduler.setTimesteps(num_train_timesteps);
          let x: Float32Array = Float32Array.of(0.7);
          for (const t of scheduler.timesteps)
            x = scheduler.step(Float32Array.of(0.1), t, x, { noise: Float32Array.of(0.3) }).prev_sample;
          expect(x[0]).toSatisfy(Number.isFinite);
        }
    },
  );

  it('gives as many steps as were asked for, and no more than T', () => {
    const scheduler = new DDPMScheduler();
    scheduler.setTimesteps(53);
    expect(scheduler.timesteps).toHaveLength(53);
    expect(() => scheduler.setTimesteps(1001)).toThrow(/1001/);
  });
});
