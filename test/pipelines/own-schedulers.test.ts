import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadPoints } from '../../src/datasets/index.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { isoLoss } from '../../src/losses/index.ts';
import { ConditionalDense, exportModelGraph, initialParameters, UNet2DModel } from '../../src/models/index.ts';
import {
  pipeline,
  type UnconditionalImageGenerationPipeline,
  type UnconditionalPointGenerationPipeline,
} from '../../src/pipelines/index.ts';
import { ModelSession } from '../../src/pipelines/model-session.ts';
import { SampleStreams } from '../../src/random/sample-streams.ts';
import { DDIMScheduler, DDPMScheduler, type Scheduler, schedulers } from '../../src/schedulers/index.ts';
import { Trainer } from '../../src/trainers/index.ts';
import { plainForward } from '../models/plain-conditional-dense.ts';
import { runExample } from '../run-example.ts';
import { EulerScheduler, HeunScheduler, MultistepScheduler } from '../schedulers/own-schedulers.ts';
import { model, savePipeline, schedulerOptions, weights } from './saved-pipeline.ts';
import { saveUNet, smallUNet } from './saved-unet.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-own-schedulers-'));
let points: UnconditionalPointGenerationPipeline;
let images: UnconditionalImageGenerationPipeline;
beforeAll(async () => {
  points = await pipeline('unconditional-point-generation', await savePipeline(folder), { device: 'cpu' });
  await saveUNet(path.join(folder, 'unet'));
  images = await pipeline('unconditional-image-generation', path.join(folder, 'unet'), { device: 'cpu' });
});
afterAll(async () => {
  await points.dispose();
  await images.dispose();
  rmSync(folder, { recursive: true, force: true });
});

const STEPS = 6;
const COUNT = 5;
const SEED = 3;

// Written once more in plain float64, with nothing of the schedulers: abar by its definition, sigma between two whole
// timesteps on a line, and the network of the paper in loops.
const T = schedulerOptions.num_train_timesteps;
const betas = Array.from({ length: T }, (_, t) => 1e-4 + ((schedulerOptions.beta_end - 1e-4) * t) / (T - 1));
const alphaBars = betas.map((_, t) => betas.slice(0, t + 1).reduce((product, b) => product * (1 - b), 1));
const between = (at: (t: number) => number, t: number) =>
  at(Math.floor(t)) + (t - Math.floor(t)) * (at(Math.ceil(t)) - at(Math.floor(t)));
const sigmaAt = (t: number) => between((whole) => Math.sqrt(1 / (alphaBars[whole] ?? 1) - 1), t);
const times = Array.from({ length: STEPS }, (_, i) => T - 1 - ((i + 0.25) * (T - 1)) / (STEPS + 1));
const sigmas = [...times.map(sigmaAt), 0];

/** dx / d sigma at a timestep: epsilon of the scaled sample. A network of whole timesteps is interpolated. */
function slope(x: readonly number[], t: number): number[] {
  const network = {
    inFeatures: 2,
    hiddenFeatures: model.config.hidden_features,
    hiddenLayers: model.config.num_hidden_layers,
    timeEmbeddingDim: model.config.time_embedding_dim,
    weights,
  };
  const scaled = x.map((value) => value / Math.sqrt(sigmaAt(t) ** 2 + 1));
  const [low, high] = [Math.floor(t), Math.ceil(t)].map((whole) =>
    plainForward(network, scaled, Array(x.length / 2).fill(whole)),
  );
  return scaled.map((_, i) => between((whole) => (whole === Math.floor(t) ? low : high)?.[i] ?? 0, t));
}
const start = () => {
  const noise = new SampleStreams(SEED, COUNT, 2).fillNormal(new Float32Array(2 * COUNT));
  return Array.from(noise, (value) => value * Math.sqrt((sigmas[0] ?? 0) ** 2 + 1));
};
const along = (x: readonly number[], d: readonly number[], width: number) =>
  x.map((value, i) => value + width * (d[i] ?? 0));

const loops: Record<string, () => number[]> = {
  EulerScheduler: () =>
    times.reduce<number[]>((x, t, i) => along(x, slope(x, t), (sigmas[i + 1] ?? 0) - (sigmas[i] ?? 0)), start()),
  HeunScheduler: () =>
    times.reduce<number[]>((x, t, i) => {
      const width = (sigmas[i + 1] ?? 0) - (sigmas[i] ?? 0);
      const here = slope(x, t);
      const next = times[i + 1];
      if (next === undefined) return along(x, here, width);
      const there = slope(along(x, here, width), next);
      return along(
        x,
        here.map((d, j) => (d + (there[j] ?? 0)) / 2),
        width,
      );
    }, start()),
  MultistepScheduler: () => {
    let [x, last] = [start(), undefined as number[] | undefined];
    times.forEach((t, i) => {
      const [before = 0, now = 0, next = 0] = [sigmas[i - 1], sigmas[i], sigmas[i + 1]];
      const here = slope(x, t);
      const ratio = (next - now) / (now - before) / 2;
      x = along(
        x,
        here.map((d, j) => (last ? d + ratio * (d - (last[j] ?? 0)) : d)),
        next - now,
      );
      last = here;
    });
    return x;
  },
};

const solvers: Record<string, Scheduler> = {
  EulerScheduler: new EulerScheduler(schedulerOptions),
  HeunScheduler: new HeunScheduler(schedulerOptions),
  MultistepScheduler: new MultistepScheduler(schedulerOptions),
};
const options = { batch_size: COUNT, num_inference_steps: STEPS, seed: SEED };

describe.each(Object.entries(solvers))('%s, written outside', (name, scheduler) => {
  it('draws the points of the plain loop', async () => {
    const drawn = await points({ ...options, scheduler, output_type: 'scaled' });
    const expected = loops[name]?.() ?? [];
    const scale = Math.max(...expected.map(Math.abs));
    expect(drawn.points).toHaveLength(expected.length);
    // Float32 against float64.
    expected.forEach((value, i) => {
      expect(Math.abs((drawn.points[i] ?? Number.NaN) - value)).toBeLessThan(2e-5 * scale);
    });
  });

  it('gives two calls at once what each gives alone, bit for bit', async () => {
    const draw = (seed: number, num_inference_steps: number) =>
      points({ batch_size: 3, num_inference_steps, seed, scheduler });
    const alone = [await draw(1, 5), await draw(2, 8), await draw(1, 8)];
    expect(await Promise.all([draw(1, 5), draw(2, 8), draw(1, 8)])).toEqual(alone);
    const drawImages = (seed: number) =>
      images({ num_inference_steps: 4, seed, scheduler, batch_size: 18, output_type: 'uint8' });
    const imagesAlone = [await drawImages(1), await drawImages(2)];
    expect(await Promise.all([drawImages(1), drawImages(2)])).toEqual(imagesAlone);
  });

  it('draws image i by its seed alone, in groups of 16 and all at once', async () => {
    const all = {
      batch_size: 18,
      num_inference_steps: 3,
      seed: 4,
      scheduler,
      output_type: 'tensor',
    } as const;
    const grouped = await images(all);
    const together = await images({ ...all, callback_on_step_end: () => {} });
    expect(together.data).toEqual(grouped.data);
  });
});

it('takes a solver by its registered name, and by its config', async () => {
  schedulers.register('EulerScheduler', EulerScheduler);
  const expected = await points({ ...options, scheduler: new EulerScheduler(schedulerOptions) });
  expect(await points({ ...options, scheduler: 'EulerScheduler' })).toEqual(expected);
  const config = new EulerScheduler(schedulerOptions).toConfig();
  expect(await points({ ...options, scheduler: config })).toEqual(expected);
});

it('trains with a scheduler of a user, and its pipeline opens with it', async () => {
  schedulers.register('MultistepScheduler', MultistepScheduler);
  const train = async (noise_scheduler: Scheduler) => {
    const trainer = new Trainer({
      model: new ConditionalDense({ hidden_features: 8 }),
      args: {
        output_dir: path.join(folder, `run-${noise_scheduler.className}`),
        max_steps: 3,
        device: 'cpu',
      },
      train_dataset: await loadPoints('moons', { n: 64 }),
      loss: isoLoss({ lambda: 0.1 }),
      noise_scheduler,
    });
    await trainer.train();
    return trainer;
  };
  const trainer = await train(new MultistepScheduler({ beta_end: 0.03 }));
  expect(trainer.weights()).toEqual((await train(new DDPMScheduler({ beta_end: 0.03 }))).weights());
  const target = path.join(folder, 'trained');
  await trainer.savePipeline(target);
  const index = JSON.parse(readFileSync(path.join(target, 'model_index.json'), 'utf8'));
  expect(index.scheduler).toEqual(['iso_diffusion', 'MultistepScheduler']);
  const opened = await pipeline('unconditional-point-generation', target, { device: 'cpu' });
  expect(opened.scheduler).toBeInstanceOf(MultistepScheduler);
  expect(opened.scheduler.config.beta_end).toBe(0.03);
  expect((await opened({ batch_size: 2, num_inference_steps: 3 })).points.every(Number.isFinite)).toBe(true);
  await opened.dispose();
});

it('runs the example of docs/schedulers.md', async () => {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const text = readFileSync(path.join(root, 'docs/schedulers.md'), 'utf8');
  const [, example = ''] = /```ts\n([\s\S]*?)```/.exec(text) ?? [];
  const file = path.join(folder, 'example.mts');
  writeFileSync(file, example.replace("'iso-diffusion'", `'${path.join(root, 'src/index.ts')}'`));
  await savePipeline(path.join(folder, 'runs/swiss-roll'));
  expect(await runExample(file, [], folder)).toBe('200\n');
});

it('asks a U-Net at the fractional timestep itself', async () => {
  // sin and cos of (t + f) w are those of t w turned by f w: turning the first dense layer of the time embedding the
  // same way must give the output at t + f from the timestep t.
  const fraction = 0.375;
  const unet = new UNet2DModel(smallUNet);
  const turned = initialParameters(unet, 0);
  const name = 'time_embedding.linear_1.weight';
  const weight = turned.get(name)?.slice() ?? new Float32Array();
  const channels = unet.config.block_out_channels[0] ?? 0;
  const half = channels / 2;
  const result = weight.slice();
  for (let row = 0; row < weight.length; row += channels)
    for (let i = 0; i < half; i++) {
      // Cosines lie before sines.
      const angle = fraction * Math.exp((-Math.log(10_000) * i) / (half - unet.config.freq_shift));
      const [c = 0, s = 0] = [weight[row + i], weight[row + half + i]];
      result[row + i] = c * Math.cos(angle) + s * Math.sin(angle);
      result[row + half + i] = s * Math.cos(angle) - c * Math.sin(angle);
    }
  turned.set(name, result);
  const session = await ModelSession.create(writeOnnx(exportModelGraph(unet, turned)), {}, unet.sampleShape, 'cpu');
  const sample = Float32Array.from({ length: 64 }, (_, i) => Math.sin(i));
  const expected = await session.predict(sample, 3);
  const output = await images.model.predict(sample, 3 + fraction);
  const other = await images.model.predict(sample, 3);
  const distance = (a: Float32Array) => Math.hypot(...a.map((x, i) => x - (expected[i] ?? Number.NaN)));
  expect(distance(output)).toBeLessThan(1e-5 * Math.hypot(...expected));
  expect(distance(other)).toBeGreaterThan(1e-3 * distance(new Float32Array(64)));
  await session.release();
  await expect(images.model.predict(sample, Number.NaN)).rejects.toThrow(/timestep NaN/);
  await expect(points.model.predict(sample, -0.5)).rejects.toThrow(/timestep -0.5/);
});

it('runs a subclass step by step where it changes what the coefficients do not say', async () => {
  class Halved extends DDIMScheduler {
    override step(...given: Parameters<DDIMScheduler['step']>) {
      const { prev_sample, pred_original_sample } = super.step(...given);
      return { prev_sample: prev_sample.map((x) => x / 2), pred_original_sample };
    }
  }
  class Scaled extends DDIMScheduler {
    override scaleModelInput(sample: Float32Array) {
      return sample.map((x) => x / 2);
    }
  }
  const plain = await points({ ...options, scheduler: new DDIMScheduler(schedulerOptions) });
  for (const Class of [Halved, Scaled]) {
    const whole = await points({ ...options, scheduler: new Class(schedulerOptions) });
    const stepwise = await points({
      ...options,
      scheduler: new Class(schedulerOptions),
      callback_on_step_end: () => {},
    });
    expect(whole).toEqual(stepwise);
    expect(whole).not.toEqual(plain);
  }
  class Louder extends DDIMScheduler {
    override init_noise_sigma = 3;
  }
  const louder = { ...options, scheduler: new Louder(schedulerOptions) };
  expect(await points(louder)).toEqual(await points({ ...louder, callback_on_step_end: () => {} }));
  expect(await points(louder)).not.toEqual(plain);
});

describe('a call under way', () => {
  it('does not see what the caller changes meanwhile', async () => {
    const scheduler = new DDIMScheduler(schedulerOptions);
    const seed = [7, 8, 9];
    const expected = await points({ batch_size: 3, num_inference_steps: 8, scheduler, seed });
    const mutable = {
      batch_size: 3,
      num_inference_steps: 8,
      scheduler,
      seed,
      callback_on_step_end: () => {},
    };
    const call = points(mutable);
    Object.assign(mutable, { batch_size: 1, num_inference_steps: 2, seed: 0, eta: 1, output_type: 'scaled' });
    seed.fill(0);
    scheduler.setTimesteps(1);
    scheduler.alphasCumprod.fill(0.5);
    expect(await call).toEqual(expected);
  });

  it('keeps its scheduler where that of the pipeline is replaced', async () => {
    const own = points.scheduler;
    const expected = await points({ batch_size: 2, num_inference_steps: 8 });
    const call = points({ batch_size: 2, num_inference_steps: 8, callback_on_step_end: () => {} });
    points.scheduler = new DDIMScheduler(schedulerOptions);
    expect(await call).toEqual(expected);
    expect(await points({ batch_size: 2, num_inference_steps: 8 })).not.toEqual(expected);
    points.scheduler = own;
  });

  it('nor do images, in any way of drawing them', async () => {
    const fixed = { num_inference_steps: 3, seed: [4, 5, 6, 7], scheduler: new DDPMScheduler() };
    const { data } = await images({ ...fixed, batch_size: 4, output_type: 'uint8' });
    const given = () => ({ ...fixed, seed: [...fixed.seed], scheduler: fixed.scheduler.clone() });
    const spoil = (options: ReturnType<typeof given>) => {
      options.seed.fill(0);
      options.scheduler.setTimesteps(1);
      Object.assign(options, { num_inference_steps: 1, count: 1, batch_size: 1, output_type: 'image' });
    };
    const whole = { ...given(), batch_size: 4, output_type: 'uint8' as const };
    const drawing = images(whole);
    spoil(whole);
    expect((await drawing).data).toEqual(data);
    const parts = { ...given(), count: 4, batch_size: 3 };
    const batches = images.batches(parts);
    spoil(parts);
    const bytes: number[] = [];
    for await (const part of batches) bytes.push(...part.data);
    expect(bytes).toEqual([...data]);
  });
});
