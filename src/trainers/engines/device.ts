import { Graph, type Value } from '../../graph/graph.ts';
import { add, mul } from '../../graph/ops/elementwise.ts';
import { reshape, unsqueeze } from '../../graph/ops/shape.ts';
import type { StepScalars } from '../../graph/optimizer.ts';
import { scalarLike } from '../../graph/registry.ts';
import type { ConcreteDevice } from '../../runtime/device.ts';
import { type HeldVector, nextName, TrainingSession } from '../../runtime/ort/training-session.ts';
import { float32Data, hostTensor, type RuntimeTensor } from '../../runtime/session.ts';
import { asHostTensors, type BatchInputs, type DropoutInput, mapBatch } from '../step/batch.ts';
import { declareBatch, reportedNames, reportOf, type StepReport } from '../step/loss-graph.ts';
import type { StepSettings } from '../step/settings.ts';
import {
  declareScalars,
  declareState,
  flatGradients,
  flatMeans,
  joinVectors,
  lossScalerIn,
  outputState,
  type StateKind,
  type StateVector,
  splitByVector,
  stateVectors,
  type TrainingState,
  updateStep,
  vectorsOf,
  withLossScaler,
} from '../step/update.ts';
import type { Backend } from './backend.ts';
import { MEANS, MeansSession } from './means-session.ts';

/** WebGPU guarantees 128 MiB for a storage buffer binding (maxStorageBufferBindingSize). */
const WEBGPU_MAX_VECTOR = 2 ** 25;

interface DeviceBackendOptions {
  /** The longest vector of state; default: what the device guarantees. */
  readonly maxVectorElements?: number | undefined;
}

/**
 * A device of onnxruntime that keeps the state in its buffers throughout. A step of one batch is one graph. A step of
 * several batches is two graphs: one adds up gradients, the other updates. (A Loop over the batches in one graph would be
 * slow: on webgpu, onnxruntime copies the values that a Loop carries to the host and back. Two graphs for one batch as
 * well would be simpler, but take about a tenth longer for a small U-Net; see docs/performance.md.)
 */
export class DeviceBackend implements Backend {
  /** The batch of a step that is one graph. */
  private batch: Record<string, RuntimeTensor> = {};

  private constructor(
    private readonly updating: TrainingSession,
    /** The session of the sums, for several batches. */
    private readonly accumulation: TrainingSession | undefined,
    private readonly graphs: DeviceGraphs,
    private readonly measuring: MeansSession | undefined,
  ) {}

  /** @param initial the state to start from, which is copied; a kind that is missing starts at zero. */
  static async create(
    settings: StepSettings,
    device: ConcreteDevice,
    initial: TrainingState,
    { maxVectorElements }: DeviceBackendOptions = {},
  ): Promise<DeviceBackend> {
    const longest = maxVectorElements ?? (device === 'webgpu' ? WEBGPU_MAX_VECTOR : undefined);
    const vectors = stateVectors(settings, { maxElements: longest });
    const graphs = settings.accumulationSteps > 1 ? sumGraphs(settings, vectors) : stepGraph(settings, vectors);
    const { accumulate, update, sums } = graphs;
    const accumulation = accumulate && (await TrainingSession.create(accumulate, sums, new Map(), device));
    try {
      const start = splitByVector(vectors, withLossScaler(settings, initial));
      const updating = await TrainingSession.create(update, vectors, start, device);
      const { measure, means } = graphs;
      const measuring = measure && (await MeansSession.create(measure, means, device));
      return new DeviceBackend(updating, accumulation, graphs, measuring);
    } catch (error) {
      await accumulation?.release();
      throw error;
    }
  }

  get reported(): readonly string[] {
    return this.graphs.reported;
  }

  get dropouts(): readonly DropoutInput[] {
    return this.graphs.dropouts;
  }

  get stepMeans(): readonly string[] {
    return this.graphs.means;
  }

  async means(batch: BatchInputs): Promise<Float32Array> {
    const feeds = { ...this.updating.tensors, ...asHostTensors(batch) };
    return (await this.measuring?.run(feeds)) ?? new Float32Array();
  }

  async accumulate(batch: BatchInputs, index: number): Promise<void> {
    const { accumulation, updating } = this;
    this.batch = asHostTensors(batch);
    if (!accumulation) return;
    const sumScale = hostTensor('float32', [1], Float32Array.of(index === 0 ? 0 : 1));
    await accumulation.run(accumulation.used({ ...updating.tensors, ...this.batch, sumScale }));
  }

  async update(scalars: StepScalars<number>, check: (report: StepReport) => void): Promise<StepReport> {
    const { accumulation, updating } = this;
    const values = mapBatch(scalars, (value) => hostTensor('float32', [1], Float32Array.of(value)));
    const given = accumulation?.tensors ?? this.batch;
    const outputs = await updating.run(updating.used({ ...given, ...values }));
    const report = reportOf(this.reported, float32Data(outputs.metrics, 'metrics'));
    check(report);
    return report;
  }

  async state(): Promise<Map<StateKind, Float32Array>> {
    return joinVectors(this.graphs.vectors, await this.updating.state());
  }

  async release(): Promise<void> {
    await this.measuring?.release();
    await this.accumulation?.release();
    await this.updating.release();
  }
}

interface DeviceGraphs {
  /** Takes the parameters and a batch, and gives its `means`. */
  readonly measure?: Graph | undefined;
  /** The names of the means over the step. */
  readonly means: readonly string[];
  /** Adds the gradients and terms of one batch to the sums: `sum_next = sumScale * sum + gradient`. */
  readonly accumulate?: Graph;
  /** Takes the state, the scalars, float32 [1], and a batch or the sums. Gives the next state and the report. */
  readonly update: Graph;
  readonly vectors: readonly StateVector[];
  readonly sums: readonly HeldVector[];
  readonly reported: readonly string[];
  /** Inputs of the graph that takes the batch. */
  readonly dropouts: readonly DropoutInput[];
}

/** A step of one batch. */
function stepGraph(settings: StepSettings, vectors: readonly StateVector[]): DeviceGraphs {
  const update = new Graph('training_step');
  const state = declareState(update, vectors);
  const { batch, inputs, dropouts } = declareBatch(update, settings);
  const parameters = vectorsOf('parameters', vectors, state);
  const lossScale = lossScalerIn(vectors, state)?.scale;
  const { flat, terms } = flatGradients(settings, parameters, batch, { ...inputs, lossScale });
  addUpdate(update, settings, vectors, state, flat, terms.values);
  return { update, vectors, sums: [], means: [], reported: reportedNames(settings, terms), dropouts };
}

/**
 * A step of several batches. `accumulate` takes the parameters, a batch, the sums, and `sumScale`, float32 [1], which is 0
 * for the first batch of a step and then 1.
 */
function sumGraphs(settings: StepSettings, vectors: readonly StateVector[]): DeviceGraphs {
  const accumulate = new Graph('accumulate');
  const own = vectors.filter(({ kind }) => kind === 'parameters' || kind === 'loss_scaler');
  const held = declareState(accumulate, own);
  const parameters = vectorsOf('parameters', own, held);
  const sumScale = accumulate.input('sumScale', 'float32', [1]);
  const { batch, inputs, dropouts } = declareBatch(accumulate, settings);
  const lossScale = lossScalerIn(own, held)?.scale;
  const { flat, terms } = flatGradients(settings, parameters, batch, { ...inputs, lossScale });
  const values = [...flat, terms.values];
  const sums = values.map((value, index) => ({
    name: index < flat.length ? `gradient_sum.${index}` : 'term_sum',
    length: Number(value.shape[0]),
  }));
  sums.forEach(({ name, length }, index) => {
    const sum = mul(accumulate.input(name, 'float32', [length]), sumScale);
    accumulate.output(nextName(name), add(sum, values[index] ?? sum));
  });

  const update = new Graph('update');
  const state = declareState(update, vectors);
  const means = sums.map(({ name, length }) => {
    const sum = update.input(name, 'float32', [length]);
    return mul(sum, scalarLike(sum, 1 / settings.accumulationSteps));
  });
  addUpdate(update, settings, vectors, state, means.slice(0, -1), means.at(-1) as Value);
  const reported = reportedNames(settings, terms);
  return { accumulate, update, ...meansGraph(settings, own), vectors, sums, reported, dropouts };
}

function meansGraph(settings: StepSettings, own: readonly StateVector[]): Pick<DeviceGraphs, 'measure' | 'means'> {
  const measure = new Graph('step_means');
  const parameters = vectorsOf('parameters', own, declareState(measure, own));
  const { batch, inputs } = declareBatch(measure, settings, 'means');
  const found = flatMeans(settings, parameters, batch, inputs);
  if (!found) return { means: [] };
  measure.output(MEANS, found.values);
  return { measure, means: found.names };
}

/** The scalars of the step and the update, with the outputs: the next state, and `metrics`, float32 [1, n]. */
function addUpdate(
  graph: Graph,
  settings: StepSettings,
  vectors: readonly StateVector[],
  state: readonly Value[],
  gradient: readonly Value[],
  terms: Value,
): void {
  const scalars = mapBatch(declareScalars(graph, 1), (value) => reshape(value, []));
  const { next, metrics } = updateStep(settings, vectors, state, gradient, terms, scalars);
  outputState(graph, vectors, next);
  graph.output('metrics', unsqueeze(metrics, [0]));
}
