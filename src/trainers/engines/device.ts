import { Graph, type Value } from '../../graph/graph.ts';
import { add, mul, reshape, unsqueeze } from '../../graph/ops/index.ts';
import { scalarLike } from '../../graph/registry.ts';
import type { ConcreteDevice } from '../../runtime/device.ts';
import { TrainingSession } from '../../runtime/ort/training-session.ts';
import { float32Data, hostTensor } from '../../runtime/session.ts';
import { asHostTensors, type BatchInputs, type DropoutInput, mapBatch } from '../step/batch.ts';
import { declareBatch } from '../step/loss-graph.ts';
import type { StepScalars, StepSettings } from '../step/settings.ts';
import {
  declareScalars,
  declareState,
  flatGradients,
  joinVectors,
  type StateKind,
  type StateVector,
  splitByVector,
  stateVectors,
  type TrainingState,
  updateStep,
  vectorsOf,
} from '../step/update.ts';
import { type Backend, reportOf, type StepReport } from './backend.ts';

/** WebGPU guarantees 128 MiB for a storage buffer binding (maxStorageBufferBindingSize). */
const WEBGPU_MAX_VECTOR = 2 ** 25;

export interface DeviceBackendOptions {
  /** The longest vector of state; default: what the device guarantees. */
  readonly maxVectorElements?: number | undefined;
  /** Makes a node that the device cannot run an error instead of a silent fallback to the cpu. */
  readonly forbidFallback?: boolean | undefined;
}

/**
 * A device of onnxruntime that keeps parameters, sums of gradients and moments in its buffers throughout. A step is two
 * graphs, so that the number of batches does not change them: onnxruntime runs a Loop's carried values through the host
 * on webgpu.
 */
export class DeviceBackend implements Backend {
  private constructor(
    private readonly accumulation: TrainingSession,
    private readonly updating: TrainingSession,
    private readonly graphs: DeviceGraphs,
  ) {}

  /** @param initial the state to start from, which is copied; a kind that is missing starts at zero. */
  static async create(
    settings: StepSettings,
    device: ConcreteDevice,
    initial: TrainingState,
    { maxVectorElements, forbidFallback }: DeviceBackendOptions = {},
  ): Promise<DeviceBackend> {
    const longest = maxVectorElements ?? (device === 'webgpu' ? WEBGPU_MAX_VECTOR : undefined);
    const graphs = buildDeviceGraphs(settings, longest);
    const { accumulate, update, vectors, sums } = graphs;
    const options = { forbidFallback };
    const accumulation = await TrainingSession.create(accumulate, sums, new Map(), device, options);
    try {
      const slots = vectors.map(({ name, bucket }) => ({ name, length: bucket.length }));
      const start = splitByVector(vectors, initial);
      const updating = await TrainingSession.create(update, slots, start, device, options);
      return new DeviceBackend(accumulation, updating, graphs);
    } catch (error) {
      await accumulation.release();
      throw error;
    }
  }

  get reported(): readonly string[] {
    return this.graphs.reported;
  }

  get dropouts(): readonly DropoutInput[] {
    return this.graphs.dropouts;
  }

  async accumulate(batch: BatchInputs, isFirst: boolean): Promise<void> {
    const { accumulation, updating } = this;
    const sumScale = hostTensor('float32', [1], Float32Array.of(isFirst ? 0 : 1));
    const feeds = { ...updating.tensors, ...asHostTensors(batch), sumScale };
    await accumulation.run(accumulation.used(feeds));
  }

  async update(scalars: StepScalars<number>, check: (report: StepReport) => void): Promise<void> {
    const { accumulation, updating } = this;
    const values = mapBatch(scalars, (value) => hostTensor('float32', [1], Float32Array.of(value)));
    const outputs = await updating.run(updating.used({ ...accumulation.tensors, ...values }));
    check(reportOf(this.reported, float32Data(outputs.metrics, 'metrics')));
  }

  async state(): Promise<Map<StateKind, Float32Array>> {
    return joinVectors(this.graphs.vectors, await this.updating.state());
  }

  async release(): Promise<void> {
    await this.accumulation.release();
    await this.updating.release();
  }
}

/** A vector that a session carries from run to run. */
interface Slot {
  readonly name: string;
  readonly length: number;
}

interface DeviceGraphs {
  /** Adds the gradients and terms of one batch to the sums: `sum_next = sumScale * sum + gradient`. */
  readonly accumulate: Graph;
  /** The update by the means of the sums. */
  readonly update: Graph;
  readonly vectors: readonly StateVector[];
  readonly sums: readonly Slot[];
  readonly reported: readonly string[];
  /** Inputs of `accumulate`. */
  readonly dropouts: readonly DropoutInput[];
}

/**
 * `accumulate` takes the parameters, the inputs of `declareBatch`, `sumScale` float32 [1], which is 0 for the first batch
 * of a step and then 1, and the sums. `update` takes the state, the sums and the scalars, float32 [1], and gives
 * the next state and `metrics`, float32 [1, n], in the order of `reported`.
 */
function buildDeviceGraphs(settings: StepSettings, maxVectorElements: number | undefined): DeviceGraphs {
  const vectors = stateVectors(settings.model, settings.ema, maxVectorElements);
  const { graph, sums, termNames, dropouts } = accumulationGraph(settings, vectors);
  return {
    accumulate: graph,
    update: updateGraph(settings, vectors, sums),
    vectors,
    sums,
    reported: [...termNames, 'grad_norm'],
    dropouts,
  };
}

function accumulationGraph(settings: StepSettings, vectors: readonly StateVector[]) {
  const graph = new Graph('accumulate');
  const own = vectors.filter(({ kind }) => kind === 'parameters');
  const parameters = vectorsOf('parameters', own, declareState(graph, own));
  const sumScale = graph.input('sumScale', 'float32', [1]);
  const { batch, dropouts } = declareBatch(graph, settings);
  const { flat, terms } = flatGradients(settings, parameters, batch, dropouts.numbers);
  const values = [...flat, terms.values];
  const sums = values.map((value, index) => ({
    name: index < flat.length ? `gradient_sum.${index}` : 'term_sum',
    length: Number(value.shape[0]),
  }));
  sums.forEach(({ name, length }, index) => {
    const sum = mul(graph.input(name, 'float32', [length]), sumScale);
    graph.output(`${name}_next`, add(sum, values[index] ?? sum));
  });
  return { graph, sums, termNames: terms.names, dropouts: dropouts.all };
}

function updateGraph(settings: StepSettings, vectors: readonly StateVector[], sums: readonly Slot[]): Graph {
  const graph = new Graph('update');
  const state = declareState(graph, vectors);
  const means = sums.map(({ name, length }) => {
    const sum = graph.input(name, 'float32', [length]);
    return mul(sum, scalarLike(sum, 1 / settings.accumulationSteps));
  });
  const scalars = mapBatch(declareScalars(graph, 1), (value) => reshape(value, []));
  const terms = means.at(-1) as Value;
  const { next, metrics } = updateStep(settings, vectors, state, means.slice(0, -1), terms, scalars);
  vectors.forEach(({ name }, index) => {
    graph.output(`${name}_next`, next[index] ?? metrics);
  });
  graph.output('metrics', unsqueeze(metrics, [0]));
  return graph;
}
