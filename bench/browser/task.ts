import { pointsFromArray } from '../../src/datasets/points/points.ts';
import { syntheticPoints } from '../../src/datasets/points/synthetic.ts';
import { elementCount } from '../../src/graph/types.ts';
import { ConditionalDense } from '../../src/models/conditional-dense.ts';
import { initialVector, namedViews } from '../../src/models/model.ts';
import { sinusoidalTable } from '../../src/nn/time-embedding.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { BatchStream } from '../../src/trainers/data/batch-stream.ts';

// The step that all contenders take: the paper's network on a Swiss roll, the Iso loss and Adam, from the same parameters
// and with the same batches.

export const LAMBDA = 0.1;
export const LEARNING_RATE = 1e-3;
export const ADAM = { name: 'adam', beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0 } as const;
export const TIMESTEPS = 1000;
export const model = new ConditionalDense();
export const scheduler = new DDPMScheduler();
export const parameters = initialVector(model, 0);

/** Weights and biases by name, in the order of the model. */
export function initialTensors(): { name: string; shape: readonly number[]; data: Float32Array }[] {
  const views = namedViews(model.parameters, parameters);
  return model.parameters.map(({ name, shape }) => {
    const data = views.get(name) ?? new Float32Array(elementCount(shape));
    return { name, shape, data: data.slice() };
  });
}

export function batchesOf(batch: number): BatchStream {
  const { data } = pointsFromArray(syntheticPoints('swiss-roll', { count: 10_000, seed: 0 }), 2);
  const samples = {
    name: 'roll',
    count: 10_000,
    sampleShape: [2],
    fingerprint: '',
    fill: (index: number, target: Float32Array) => target.set(data.subarray(2 * index, 2 * index + 2)),
  };
  return new BatchStream(samples, { batchSize: batch, trainTimesteps: TIMESTEPS, seed: 0 });
}

/** A batch as a network written by hand takes it: noised points, the noise, and the encoded timesteps. */
export interface PlainBatch {
  readonly noisy: Float32Array;
  readonly noise: Float32Array;
  /** Row-major [batch, 128]. */
  readonly encoding: Float32Array;
}

const CHANNELS = model.config.time_embedding_dim;
const table = Float32Array.from(sinusoidalTable(TIMESTEPS, CHANNELS));

export function plainBatch(batches: BatchStream, step: number): PlainBatch {
  const { clean, noise, timestep } = batches.steps(step, 1);
  const noisy = clean.map((value, i) => {
    const abar = scheduler.alphasCumprod[timestep[i >> 1] ?? 0] ?? 0;
    return Math.sqrt(abar) * value + Math.sqrt(1 - abar) * (noise[i] ?? 0);
  });
  const encoding = new Float32Array(timestep.length * CHANNELS);
  timestep.forEach((t, row) => {
    encoding.set(table.subarray(t * CHANNELS, (t + 1) * CHANNELS), row * CHANNELS);
  });
  return { noisy, noise, encoding };
}

/** One of those compared. */
export interface Contender {
  /** Takes steps `first` to `first + count - 1`. @returns the loss of the last one, once all is computed. */
  run(first: number, count: number): Promise<number>;
  close(): Promise<void>;
}
