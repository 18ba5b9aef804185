import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Graph, gradients, identity, reduceSum, square } from '../../src/graph/index.ts';
import {
  DDIMScheduler,
  DDPMScheduler,
  exportModel,
  initialParameters,
  isoLoss,
  models,
  pipeline,
  Trainer,
  type TrainingArguments,
} from '../../src/index.ts';
import { ForwardContext, hwnc, type Layout, nchw } from '../../src/nn/index.ts';
import { permuteAxes } from '../../src/nn/layout.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { hostTensor, Session } from '../../src/runtime/session.ts';
import { relativeError, runGraph } from '../models/run-graph.ts';
import { stripes } from '../trainers/stripes.ts';
import { TinyDiT } from './tiny-dit.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-dit-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const normals = (length: number, seed: number) => new RandomStream(seed).fillNormal(new Float32Array(length));

/** Output and gradients of the sum of its squares. */
async function run(model: TinyDiT, layout: Layout) {
  const graph = new Graph('dit');
  const weights = initialParameters(model, 5);
  const parameters = new Map(
    model.parameters.map(({ name, shape, isFilter }) => {
      const axes = isFilter ? layout.filterAxes : shape.map((_, axis) => axis);
      const data = permuteAxes(weights.get(name) ?? new Float32Array(), shape, axes);
      return [
        name,
        graph.constant(
          'float32',
          axes.map((axis) => shape[axis] ?? 1),
          data,
          name,
        ),
      ];
    }),
  );
  const sample = graph.input('sample', 'float32', [3, ...model.sampleShape]);
  const timestep = graph.input('timestep', 'int32', [3]);
  const class_labels = graph.input('labels', 'int32', [3]);
  const output = model.forward({ sample, timestep, class_labels }, new ForwardContext(parameters, { layout }));
  graph.output('y', identity(output));
  gradients(reduceSum(square(output)), [...parameters.values()]).forEach((gradient, i) => {
    graph.output(`d/${model.parameters[i]?.name}`, identity(gradient));
  });
  return runGraph(graph, {
    sample: { dtype: 'float32', shape: [3, ...model.sampleShape], data: normals(192, 1) },
    timestep: { dtype: 'int32', shape: [3], data: Int32Array.of(0, 500, 999) },
    labels: { dtype: 'int32', shape: [3], data: Int32Array.of(0, 1, 2) },
  });
}

describe('a diffusion transformer of the layers', () => {
  const model = new TinyDiT({ num_class_embeds: 3, modulation_std: 0.2 });

  it('gives samples, and a gradient for every parameter, in every layout alike', async () => {
    const first = await run(model, nchw);
    expect(first.y?.shape).toEqual([3, 1, 8, 8]);
    // A key's bias adds the same to all scores of a query, which softmax takes out.
    for (const { name } of model.parameters.filter(({ name }) => !name.endsWith('to_k.bias')))
      expect(Math.max(...(first[`d/${name}`]?.data ?? []).map(Math.abs)), name).toBeGreaterThan(1e-6);
    const other = await run(model, hwnc);
    expect(relativeError(other.y?.data ?? [], first.y?.data ?? [])).toBeLessThan(1e-5);
    const head = 'd/head.weight';
    expect(relativeError(other[head]?.data ?? [], first[head]?.data ?? [])).toBeLessThan(1e-5);
  });

  it('is exported for any number of samples, with one timestep or one a sample', async () => {
    const session = await Session.create(exportModel(model, initialParameters(model, 5)), 'cpu');
    const at = async (samples: number, timesteps: readonly number[]) => {
      const { out_sample } = await session.run({
        sample: hostTensor('float32', [samples, 1, 8, 8], normals(64 * samples, 1)),
        timestep: hostTensor('int64', [timesteps.length], BigInt64Array.from(timesteps, BigInt)),
        class_labels: hostTensor('int64', [1], BigInt64Array.of(1n)),
      });
      return Array.from(out_sample?.data as Float32Array);
    };
    const one = await at(1, [500]);
    const three = await at(3, [500]);
    expect(relativeError(three.slice(0, 64), one)).toBeLessThan(1e-5);
    expect(relativeError(await at(3, [500, 500, 500]), three)).toBeLessThan(1e-5);
    expect(relativeError(await at(3, [500, 10, 900]), three)).toBeGreaterThan(0.01);
    await session.release();
  });
});

/** The losses of a run, each of 10 steps. */
async function train(name: string, args: Partial<TrainingArguments> = {}) {
  const losses: number[] = [];
  const trainer = new Trainer({
    model: new TinyDiT({ dropout: 0.1 }),
    args: {
      output_dir: path.join(folder, name),
      max_steps: 60,
      per_device_train_batch_size: 16,
      learning_rate: 3e-3,
      logging_steps: 10,
      device: 'cpu',
      ...args,
    },
    train_dataset: stripes(),
    loss: isoLoss({ lambda: 0.01 }),
    noise_scheduler: new DDPMScheduler(),
    callbacks: [{ onStep: (_, { loss }) => void losses.push(Number(loss)) }],
  });
  await trainer.train();
  return { trainer, losses };
}

it('learns, with dropout and checkpoints, is saved, and opened again by its registered class', async () => {
  const { trainer, losses } = await train('run');
  expect(losses).toHaveLength(6);
  expect(losses.at(-1)).toBeLessThan(0.7 * Number(losses[0]));
  const checkpointed = await train('checkpointed', { gradient_checkpointing: true });
  expect(checkpointed.trainer.weights()).toEqual(trainer.weights());

  const saved = path.join(folder, 'pipeline');
  await trainer.savePipeline(saved);
  models.register('TinyDiT', TinyDiT);
  const generate = await pipeline('unconditional-image-generation', saved, { device: 'cpu' });
  const image = await generate({ num_inference_steps: 4, scheduler: new DDIMScheduler() });
  expect(image).toMatchObject({ width: 8, height: 8, channels: 1 });
  await generate.dispose();
}, 60_000);
