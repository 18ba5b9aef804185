import { NonFiniteLossError } from '../../errors.ts';
import { adamScalars } from '../../graph/optimizer.ts';
import type { ConcreteDevice } from '../../runtime/device.ts';
import { TrainingSession } from '../../runtime/ort/training-session.ts';
import { float32Data, hostTensor, type RuntimeTensor } from '../../runtime/session.ts';
import type { BatchSupply } from '../data/prefetched-batches.ts';
import type { DropoutInput } from '../step/dropout-inputs.ts';
import {
  buildTrainingGraph,
  STEP_METRICS,
  STEP_SCALARS,
  type StateKind,
  type StateVector,
  type TrainingGraphSettings,
} from '../step/training-graph.ts';

/** Below this many parameters one step is so short that calling it from JavaScript would dominate: use a Loop. */
export const LOOP_MAX_PARAMETERS = 4_000_000;
/** WebGPU guarantees 128 MiB for a storage buffer binding (maxStorageBufferBindingSize). */
export const WEBGPU_MAX_BUCKET_ELEMENTS = 2 ** 25;

/** A run stops at least this often to see whether it was interrupted. */
const MAX_LOOP_STEPS = 100;

/** The schedules that give each step (from 1) its scalars. */
export interface StepSchedules {
  learningRate(step: number): number;
  emaDecay(step: number): number;
}

/** Parameters, moments and moving average, each as one vector in the order of the model's parameters. */
export type TrainingState = ReadonlyMap<StateKind, Float32Array>;

/** Runs training steps on a device: fills the inputs of the training graph and watches its metrics. */
export class TrainingEngine {
  private constructor(
    private readonly session: TrainingSession,
    private readonly settings: TrainingGraphSettings,
    private readonly batches: BatchSupply,
    private readonly schedules: StepSchedules,
    readonly stateVectors: readonly StateVector[],
    private readonly dropouts: readonly DropoutInput[],
    private readonly usedInputs: ReadonlySet<string>,
  ) {}

  /** A run of more steps is cut into several, so that it can be interrupted in between. */
  get maxStepsPerRun(): number {
    return this.settings.mode === 'loop' ? MAX_LOOP_STEPS : 1;
  }

  /** @param initial the state to start from, the vectors of each kind joined; a kind that is missing starts at zero. */
  static async create(
    options: Omit<TrainingGraphSettings, 'mode' | 'maxBucketElements'>,
    device: ConcreteDevice,
    initial: TrainingState,
    batches: BatchSupply,
    schedules: StepSchedules,
  ): Promise<TrainingEngine> {
    const settings = { ...options, ...deviceSettings(device, options) };
    const { graph, state, dropouts } = buildTrainingGraph(settings);
    const slots = state.map(({ name, bucket }) => ({ name, length: bucket.length }));
    const session = await TrainingSession.create(graph, slots, splitByBucket(state, initial), device);
    return new TrainingEngine(session, settings, batches, schedules, state, dropouts, session.inputNames);
  }

  /**
   * Runs the steps `first + 1` to `first + count` (the first step of all is 1).
   *
   * @returns one row of `STEP_METRICS` a step.
   * @throws {NonFiniteLossError} that names the first step whose loss or gradient was not finite.
   */
  async run(first: number, count: number): Promise<Float32Array[]> {
    const rows: Float32Array[] = [];
    const stepsPerRun = this.settings.mode === 'loop' ? count : 1;
    for (let done = 0; done < count; done += stepsPerRun) {
      const outputs = await this.session.run(await this.feeds(first + done, stepsPerRun));
      const metrics = float32Data(outputs.metrics, 'metrics');
      for (let i = 0; i < stepsPerRun; i++) {
        const row = metrics.slice(i * STEP_METRICS.length, (i + 1) * STEP_METRICS.length);
        refuseNonFinite(row, first + done + i + 1);
        rows.push(row);
      }
    }
    return rows;
  }

  /** A copy of the state on the host. */
  async state(): Promise<Map<StateKind, Float32Array>> {
    return joinBuckets(this.stateVectors, await this.session.state());
  }

  async lendState<Result>(use: (state: TrainingState) => Promise<Result>): Promise<Result> {
    return use(await this.state());
  }

  release(): Promise<void> {
    return this.session.release();
  }

  private async feeds(first: number, count: number): Promise<Record<string, RuntimeTensor>> {
    const { model, adam, accumulationSteps = 1 } = this.settings;
    const batchSize = this.settings.batchSize * accumulationSteps;
    const { clean, noise, timestep, classLabels } = await this.batches.steps(first, count);
    const shape = [count, batchSize, ...model.sampleShape];
    const feeds: Record<string, RuntimeTensor> = {
      clean: hostTensor('float32', shape, clean),
      noise: hostTensor('float32', shape, noise),
      timestep: hostTensor('int32', [count, batchSize], timestep),
      ...(classLabels ? { class_labels: hostTensor('int32', [count, batchSize], classLabels) } : {}),
      trips: hostTensor('int64', [], BigInt64Array.of(BigInt(count))),
    };
    this.dropouts.forEach(({ name, length }, dropout) => {
      const numbers = new Float32Array(count * length);
      const perBatch = length / accumulationSteps;
      for (let i = 0; i < count * accumulationSteps; i++)
        this.batches.dropoutNumbers(
          { step: first + Math.floor(i / accumulationSteps), batch: i % accumulationSteps, dropout },
          numbers.subarray(i * perBatch, (i + 1) * perBatch),
        );
      feeds[name] = hostTensor('float32', [count, length], numbers);
    });
    const scalars = STEP_SCALARS.map(() => new Float32Array(count));
    for (let i = 0; i < count; i++) {
      const step = first + i + 1;
      const { stepSize, epsilon, keep } = adamScalars(step, this.schedules.learningRate(step), adam);
      [stepSize, epsilon, keep, 1 - this.schedules.emaDecay(step)].forEach((value, index) => {
        (scalars[index] as Float32Array)[i] = value;
      });
    }
    STEP_SCALARS.forEach((name, index) => {
      feeds[name] = hostTensor('float32', [count], scalars[index] as Float32Array);
    });
    return Object.fromEntries(Object.entries(feeds).filter(([name]) => this.usedInputs.has(name)));
  }
}

function deviceSettings(device: ConcreteDevice, { model }: { model: TrainingGraphSettings['model'] }) {
  const parameters = model.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  // On cuda the binding copies all state in and out of every run, so that many steps a run pay off at any size.
  const loops = device === 'cuda' || (device === 'cpu' && parameters <= LOOP_MAX_PARAMETERS);
  return {
    mode: loops ? ('loop' as const) : ('single' as const),
    maxBucketElements: device === 'webgpu' ? WEBGPU_MAX_BUCKET_ELEMENTS : undefined,
  };
}

export function splitByBucket(
  vectors: readonly StateVector[],
  state: TrainingState,
): Map<string, Float32Array> {
  const slots = new Map<string, Float32Array>();
  const offsets = new Map<StateKind, number>();
  for (const { kind, name, bucket } of vectors) {
    const start = offsets.get(kind) ?? 0;
    const whole = state.get(kind);
    if (whole) slots.set(name, whole.subarray(start, start + bucket.length));
    offsets.set(kind, start + bucket.length);
  }
  return slots;
}

export function joinBuckets(
  vectors: readonly StateVector[],
  slots: ReadonlyMap<string, Float32Array>,
): Map<StateKind, Float32Array> {
  const state = new Map<StateKind, Float32Array>();
  for (const { kind, name } of vectors) {
    const before = state.get(kind);
    const piece = slots.get(name) ?? new Float32Array();
    if (!before) {
      state.set(kind, piece);
      continue;
    }
    const joined = new Float32Array(before.length + piece.length);
    joined.set(before);
    joined.set(piece, before.length);
    state.set(kind, joined);
  }
  return state;
}

export function refuseNonFinite(row: Float32Array, step: number): void {
  if (row.every(Number.isFinite)) return;
  const values = STEP_METRICS.map((name, index) => `${name} ${row[index]}`).join(', ');
  throw new NonFiniteLossError(
    `training diverged at step ${step}: ${values}. Lower learning_rate, set max_grad_norm, or check the data; the last checkpoint is from before this step`,
    step,
  );
}
