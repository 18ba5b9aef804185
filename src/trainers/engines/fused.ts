import { runsBlock } from '#runtime/binding';
import { Graph, type GraphTarget, type Value } from '../../graph/graph.ts';
import { add, cast, mul, sub } from '../../graph/ops/elementwise.ts';
import { gather } from '../../graph/ops/indexing.ts';
import { loop } from '../../graph/ops/loop.ts';
import { reduceMean } from '../../graph/ops/reduce.ts';
import { expandTo, reshape, split } from '../../graph/ops/shape.ts';
import { scalarLike } from '../../graph/registry.ts';
import { nchw } from '../../nn/layout.ts';
import { type ConcreteDevice, isCuda } from '../../runtime/device.ts';
import { TrainingSession } from '../../runtime/ort/training-session.ts';
import { float32Data, hostTensor, type RuntimeTensor } from '../../runtime/session.ts';
import type { Batches } from '../data/prefetched-batches.ts';
import { asHostTensors, batchInputs, type DropoutInput, lossScalarInputs, mapBatch } from '../step/batch.ts';
import {
  buildLossGraph,
  DropoutInputs,
  declareBatches,
  declareLossScalars,
  reportedNames,
  reportOf,
  type StepInputs,
  type StepReport,
} from '../step/loss-graph.ts';
import type { BatchValues } from '../step/objective.ts';
import type { StepSchedule, StepSettings } from '../step/settings.ts';
import {
  declareScalars,
  declareState,
  type FlatGradients,
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
  type VectorValues,
  vectorsOf,
  withLossScaler,
} from '../step/update.ts';
import type { StateHolder } from './backend.ts';

/** The most steps of one run: a run stops at least this often to see whether it was interrupted. */
const MAX_STEPS = runsBlock ? 25 : 100;
/** Where a run blocks its thread, it also ends after about this long. */
const MAX_RUN_MS = 100;
/** The row in which gradients are joined on cuda, see `flatten`: 2 MiB of table for 36 million parameters. */
const CUDA_ROW = 128;

/**
 * Many whole training steps in one ONNX Loop, whose carried values are the state: for models so small that calling a step
 * from JavaScript would dominate it, and for cuda, where the binding copies the state in and out of every run.
 */
export class FusedBackend implements StateHolder {
  private runSteps = runsBlock ? 1 : MAX_STEPS;

  private constructor(
    private readonly session: TrainingSession,
    private readonly built: LoopGraph,
    private readonly settings: StepSettings,
    private readonly batches: Batches,
    private readonly schedule: StepSchedule,
  ) {}

  /** @param initial the state to start from, which is copied; a kind that is missing starts at zero. */
  static async create(
    settings: StepSettings,
    device: ConcreteDevice,
    initial: TrainingState,
    batches: Batches,
    schedule: StepSchedule,
  ): Promise<FusedBackend> {
    const built = buildLoopGraph(settings, isCuda(device) ? 'cuda' : 'any');
    const start = splitByVector(built.vectors, withLossScaler(settings, initial));
    const session = await TrainingSession.create(built.graph, built.vectors, start, device);
    return new FusedBackend(session, built, settings, batches, schedule);
  }

  get reported(): readonly string[] {
    return this.built.reported;
  }

  /** The most steps of the next run. Results do not depend on where a run ends. */
  get maxSteps(): number {
    return this.runSteps;
  }

  /** The reports of the steps `first + 1` to `first + count`. @param skipped how many of those before were skipped. */
  async steps(first: number, count: number, skipped: number): Promise<StepReport[]> {
    const feeds = await this.feeds(first, count, skipped);
    const start = performance.now();
    const outputs = await this.session.run(feeds);
    if (runsBlock) this.runSteps = stepsWithin(MAX_RUN_MS, (performance.now() - start) / count);
    const metrics = float32Data(outputs.metrics, 'metrics');
    const width = this.reported.length;
    return Array.from({ length: count }, (_, i) =>
      reportOf(this.reported, metrics.subarray(i * width, (i + 1) * width)),
    );
  }

  async state(): Promise<Map<StateKind, Float32Array>> {
    return joinVectors(this.built.vectors, await this.session.state());
  }

  release(): Promise<void> {
    return this.session.release();
  }

  private async feeds(first: number, count: number, skipped: number): Promise<Record<string, RuntimeTensor>> {
    const { objective, batchSize, accumulationSteps } = this.settings;
    const step = await this.batches.steps(first, count);
    const update = this.overSteps(first - skipped, count, (at) => ({ ...this.schedule.update(at) }));
    const lossScalars = this.overSteps(first, count, (at) => this.schedule.lossScalars(at));
    const dropouts = this.built.dropouts.map(({ name, samples, length }, dropout) => {
      const numbers = new Float32Array(count * samples * length);
      for (let i = 0; i < count; i++) {
        const ofStep = numbers.subarray(i * samples * length, (i + 1) * samples * length);
        this.batches.dropoutNumbers({ step: first + i, dropout, first: 0, count: samples }, ofStep);
      }
      return [name, hostTensor('float32', [count, samples, length], numbers)];
    });
    return this.session.used({
      ...asHostTensors(batchInputs(objective, step, [count, batchSize * accumulationSteps])),
      trips: hostTensor('int64', [], BigInt64Array.of(BigInt(count))),
      ...mapBatch(update, (values) => hostTensor('float32', [count], values)),
      ...asHostTensors(lossScalarInputs(lossScalars)),
      ...Object.fromEntries(dropouts),
    });
  }

  /** What a schedule gives for each of the steps, by name: [count]. */
  private overSteps(
    first: number,
    count: number,
    valuesAt: (step: number) => Readonly<Record<string, number>>,
  ): Record<string, Float32Array> {
    const steps = Array.from({ length: count }, (_, i) => valuesAt(first + i + 1));
    const names = Object.keys(steps[0] ?? {});
    return Object.fromEntries(
      names.map((name) => [name, Float32Array.from(steps, (step) => step[name] ?? Number.NaN)]),
    );
  }
}

/** How many steps of `stepMs` end within `milliseconds`: at least one, at most `MAX_STEPS`. */
function stepsWithin(milliseconds: number, stepMs: number): number {
  return Math.max(1, Math.min(MAX_STEPS, Math.floor(milliseconds / stepMs)));
}

interface LoopGraph {
  readonly graph: Graph;
  readonly vectors: readonly StateVector[];
  readonly dropouts: readonly DropoutInput[];
  readonly reported: readonly string[];
}

/**
 * Whole training steps as one graph: the objective's preparation, forward pass, loss, gradients, clipping, the optimizer
 * and EMA.
 *
 * Inputs (batch: all samples of a step): the state vectors; the inputs of the objective, ['steps', batch, ...]; the scalars
 * of the next updates, float32 ['steps']; for a model with dropout the `dropouts`; the scalars of the loss that are inputs,
 * float32 ['steps']; `trips`, int64 []. Outputs: the next state, each vector with the suffix `_next`, and `metrics`, float32 ['steps', n], in the order of
 * `reported`.
 */
export function buildLoopGraph(settings: StepSettings, target: GraphTarget): LoopGraph {
  const { batchSize, accumulationSteps } = settings;
  const graph = new Graph('training_step', undefined, target);
  const vectors = stateVectors(settings, { alignment: target === 'cuda' ? CUDA_ROW : 1 });
  const state = declareState(graph, vectors);
  // Prepared for all steps at once: outside the Loop this costs its nodes once a run instead of once a step.
  const batches = declareBatches(graph, settings, ['steps', batchSize * accumulationSteps]);
  const scalars = declareScalars(graph, 'steps');
  const lossScalars = declareLossScalars(graph, settings, 'steps');
  const trips = graph.input('trips', 'int64', []);
  const dropouts: DropoutInput[] = [];
  let reported: readonly string[] = [];
  const scalerBefore = lossScalerIn(vectors, state);
  const looped = loop(trips, state, (body, trip, carried) => {
    const row = (value: Value) => gather(value, trip);
    const drops = new DropoutInputs(graph, 'steps', row);
    const scaler = lossScalerIn(vectors, carried);
    const inputs = {
      dropoutNumbers: drops.numbers,
      lossScalars: mapBatch(lossScalars, row),
      lossScale: scaler?.scale,
    };
    const parameters = vectorsOf('parameters', vectors, carried);
    const samples = mapBatch(batches, row);
    const means = stepMeans(settings, parameters, samples, inputs, body);
    drops.again();
    const stepMean = (name: string) => means[name] ?? body.constant('float32', [], Float32Array.of(Number.NaN));
    const { flat, terms } = meanGradients(settings, parameters, samples, { ...inputs, stepMean }, body);
    // Steps that are skipped are no updates.
    const update =
      scaler && scalerBefore ? sub(trip, cast(sub(scaler.skippedSteps, scalerBefore.skippedSteps), trip.dtype)) : trip;
    const values = mapBatch(scalars, (value) => gather(value, update));
    const { next, metrics } = updateStep(settings, vectors, carried, flat, terms.values, values);
    dropouts.push(...drops.all);
    reported = reportedNames(settings, terms);
    return { state: next, perTrip: [metrics] };
  });
  outputState(graph, vectors, looped.state);
  graph.output('metrics', looped.perTrip[0] ?? trips);
  return { graph, vectors, dropouts, reported };
}

/** The means over all batches of a step that the loss asks for, by an inner Loop. */
function stepMeans(
  settings: StepSettings,
  parameters: VectorValues,
  samples: BatchValues,
  inputs: StepInputs,
  graph: Graph,
): Readonly<Record<string, Value>> {
  if (!settings.overStep || buildLossGraph(settings, nchw, 'means').means.size === 0) return {};
  let names: readonly string[] = [];
  const { perTrip } = overBatches(settings, samples, inputs, graph, [], (batch, own) => {
    const means = flatMeans(settings, parameters, batch, own);
    names = means?.names ?? [];
    return { state: [], perTrip: means ? [means.values] : [] };
  });
  const [values] = perTrip;
  if (!values) return {};
  const whole = reduceMean(values, [0]);
  const parts = split(
    whole,
    names.map(() => 1),
    0,
  );
  return Object.fromEntries(names.map((name, i) => [name, reshape(parts[i] ?? whole, [])]));
}

/** An inner Loop of `graph` over the batches of a step, which carries `initial`. */
function overBatches(
  { batchSize, accumulationSteps }: StepSettings,
  samples: BatchValues,
  inputs: StepInputs,
  graph: Graph,
  initial: readonly Value[],
  body: (batch: BatchValues, inputs: StepInputs, carried: readonly Value[]) => { state: Value[]; perTrip: Value[] },
) {
  const perBatch = (value: Value, length: number) =>
    reshape(value, [accumulationSteps, length, ...value.shape.slice(1).map(Number)]);
  const byBatch = mapBatch(samples, (value) => perBatch(value, batchSize));
  const trips = graph.constant('int64', [], BigInt64Array.of(BigInt(accumulationSteps)));
  return loop(trips, initial, (_body, trip, carried) => {
    const batch = mapBatch(byBatch, (value) => gather(value, trip));
    const dropoutNumbers = (count: number, length: number) =>
      gather(perBatch(inputs.dropoutNumbers(accumulationSteps * count, length), count), trip);
    return body(batch, { ...inputs, dropoutNumbers }, carried);
  });
}

/** The mean over the batches of a step, by an inner Loop where there are several. */
function meanGradients(
  settings: StepSettings,
  parameters: VectorValues,
  samples: BatchValues,
  inputs: StepInputs,
  graph: Graph,
): FlatGradients {
  const { accumulationSteps } = settings;
  if (accumulationSteps === 1) return flatGradients(settings, parameters, samples, inputs);
  const zero = graph.constant('float32', [], Float32Array.of(0));
  const zeros = parameters.map(({ vector }) => expandTo(zero, [vector.length]));
  let names: readonly string[] = [];
  const { state, perTrip } = overBatches(settings, samples, inputs, graph, zeros, (batch, own, sums) => {
    const { flat, terms } = flatGradients(settings, parameters, batch, own);
    names = terms.names;
    return { state: flat.map((value, i) => add(sums[i] ?? value, value)), perTrip: [terms.values] };
  });
  const flat = state.map((sum) => mul(sum, scalarLike(sum, 1 / accumulationSteps)));
  return { flat, terms: { names, values: reduceMean(perTrip[0] ?? zero, [0]) } };
}
