import { hostTensor, type RuntimeTensor } from '../../runtime/session.ts';
import type { Objective, SampleType } from './objective.ts';

/**
 * The training data of a batch, or of several: arrays on the host, values in a graph. The names of the parts are those of
 * the inputs of graphs.
 */
export type Batch<Floats, Ints = Floats> = {
  /** x_0: [batch, ...sampleShape]. */
  readonly clean: Floats;
  /** Standard normal numbers, of the shape of `clean` for a diffusion model. */
  readonly noise: Floats;
  /** The noise in x_t, where it is not `noise`: with input perturbation. */
  readonly input_noise?: Floats | undefined;
  /** From 0: [batch]. */
  readonly timestep: Ints;
  /** From 0, for a model with classes: [batch]. */
  readonly class_labels: Ints | undefined;
  /** What a model is given beside the sample, where it takes that: [batch, ...conditionShape]. */
  readonly condition?: Floats | undefined;
};

/** The samples of one or more steps, one after another. A part that the objective does not take is empty. */
export type HostBatch = Batch<Float32Array, Int32Array>;

/** The same with `change` applied to every part; a part that is missing stays so. */
export function mapBatch<Parts extends object, To>(
  parts: Parts,
  change: (part: NonNullable<Parts[keyof Parts]>, name: keyof Parts & string) => To,
): { readonly [Name in keyof Parts]: To | Extract<Parts[Name], undefined> } {
  const changed = Object.entries(parts).map(([name, part]) => [
    name,
    part === undefined ? undefined : change(part, name as keyof Parts & string),
  ]);
  return Object.fromEntries(changed) as ReturnType<typeof mapBatch<Parts, To>>;
}

/** An input of random integers for one dropout of a training graph: float32 ['steps', samples, length]. */
export interface DropoutInput {
  readonly name: string;
  /** Samples of the graph: those of a batch, or of all batches of a step. */
  readonly samples: number;
  /** Integers a sample. */
  readonly length: number;
}

/** The inputs of the loss's scalars in as many steps as each has values, by the names in graphs. */
export function lossScalarInputs(values: Readonly<Record<string, Float32Array>>): BatchInputs {
  return Object.fromEntries(
    Object.entries(values).map(([name, data]) => [
      lossScalarName(name),
      { dtype: 'float32', shape: [data.length], data },
    ]),
  );
}

/** The input of a graph that holds a scalar of the loss, float32 ['steps']. A parameter cannot have the name by chance. */
export const lossScalarName = (scalar: string) => `loss_scalar/${scalar}`;

/** The input of a graph that holds a mean over all batches of the step, float32 [1]. */
export const stepMeanName = (name: string) => `step_mean/${name}`;

/** What one input of a graph takes, on the host; the data may be a view of a longer array. */
export interface HostInput extends SampleType {
  readonly data: Float32Array | Int32Array;
}

/** The inputs of a graph of one batch by name: the parts of the batch and the dropouts. */
export type BatchInputs = Readonly<Record<string, HostInput>>;

/** The parts of `steps` batches of `batchSize` samples as inputs of a graph: [steps, batchSize, ...]. */
export function batchInputs(
  { inputs }: Pick<Objective, 'inputs'>,
  batch: Batch<Float32Array | Int32Array>,
  [steps, batchSize]: readonly [steps: number, batchSize: number],
): BatchInputs {
  const data: Readonly<Record<string, Float32Array | Int32Array | undefined>> = batch;
  const taken = Object.entries(inputs).flatMap(([name, type]) => {
    if (!type) return [];
    const { dtype, shape } = type;
    const given = data[name] ?? new Int32Array(steps * batchSize);
    return [[name, { dtype, shape: [steps, batchSize, ...shape], data: given }] as const];
  });
  return Object.fromEntries(taken);
}

/** As onnxruntime takes them, without a copy. */
export function asHostTensors(inputs: BatchInputs): Record<string, RuntimeTensor> {
  return Object.fromEntries(
    Object.entries(inputs).map(([name, { dtype, shape, data }]) => [name, hostTensor(dtype, shape, data)]),
  );
}
