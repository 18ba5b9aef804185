import { hostTensor, type RuntimeTensor } from '../../runtime/session.ts';
import type { BatchSupply } from '../data/prefetched-batches.ts';
import type { DropoutInput } from './dropout-inputs.ts';
import type { TrainingGraphSettings } from './training-graph.ts';

/** What one input of a graph takes for a batch, on the host; the data may be a view of those of the step. */
export type BatchInput =
  | { readonly dtype: 'float32'; readonly shape: readonly number[]; readonly data: Float32Array }
  | { readonly dtype: 'int32'; readonly shape: readonly number[]; readonly data: Int32Array };

/** The inputs of a graph of one batch by name: `clean`, `noise`, `timestep`, and what the model has of the others. */
export type BatchInputs = ReadonlyMap<string, BatchInput>;

export interface BatchPlan {
  /** `batchSize` is that of one batch. */
  readonly settings: Pick<TrainingGraphSettings, 'model' | 'batchSize'>;
  readonly dropouts: readonly DropoutInput[];
  /** Batches a step. */
  readonly accumulationSteps: number;
  /** Gives the samples of a whole step. */
  readonly batches: BatchSupply;
}

/** The inputs of each batch of step `index` (from 0). */
export async function* batchesOfStep(plan: BatchPlan, index: number): AsyncGenerator<BatchInputs> {
  const { settings, dropouts, accumulationSteps, batches } = plan;
  const { model, batchSize } = settings;
  const { clean, noise, timestep, classLabels } = await batches.steps(index, 1);
  const size = clean.length / accumulationSteps;
  const samples = [1, batchSize, ...model.sampleShape];
  for (let batch = 0; batch < accumulationSteps; batch++) {
    const part = (values: Float32Array): BatchInput => ({
      dtype: 'float32',
      shape: samples,
      data: values.subarray(batch * size, (batch + 1) * size),
    });
    const perSample = (values: Int32Array): BatchInput => ({
      dtype: 'int32',
      shape: [1, batchSize],
      data: values.subarray(batch * batchSize, (batch + 1) * batchSize),
    });
    const inputs = new Map([
      ['clean', part(clean)],
      ['noise', part(noise)],
      ['timestep', perSample(timestep)],
    ]);
    if (classLabels) inputs.set('class_labels', perSample(classLabels));
    dropouts.forEach(({ name, length }, dropout) => {
      const data = batches.dropoutNumbers({ step: index, batch, dropout }, new Float32Array(length));
      inputs.set(name, { dtype: 'float32', shape: [1, length], data });
    });
    yield inputs;
  }
}

/** As onnxruntime takes them, without a copy. */
export function asHostTensors(inputs: BatchInputs): Record<string, RuntimeTensor> {
  return Object.fromEntries(
    [...inputs].map(([name, { dtype, shape, data }]) => [name, hostTensor(dtype, shape, data)]),
  );
}
