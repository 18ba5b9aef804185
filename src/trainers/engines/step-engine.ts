import { InvalidArgumentError } from '../../errors.ts';
import { elementCount } from '../../graph/types.ts';
import type { ConcreteDevice, Device } from '../../runtime/device.ts';
import { asTfjs, type TfjsModule } from '../../runtime/tfjs/tf-module.ts';
import type { BatchSupply } from '../data/prefetched-batches.ts';
import type { StateKind, TrainingGraphSettings } from '../step/training-graph.ts';
import { AccumulatingTrainingEngine } from './accumulating-training-engine.ts';
import { createSplitEngine } from './split-training-engine.ts';
import { createTfjsEngine } from './tfjs-training-engine.ts';
import {
  LOOP_MAX_PARAMETERS,
  type StepSchedules,
  TrainingEngine,
  type TrainingState,
} from './training-engine.ts';

/** Runs training steps and holds their state, wherever it lies. */
export interface StepEngine {
  /** The most steps of one call of `run`, so that a run can be interrupted in between. */
  readonly maxStepsPerRun: number;
  /** Runs the steps `first + 1` to `first + count` and returns a row of `STEP_METRICS` for each. */
  run(first: number, count: number): Promise<Float32Array[]>;
  /** A copy of the state on the host. */
  state(): Promise<Map<StateKind, Float32Array>>;
  /** Lets `use` read the state until its promise resolves, without a copy where it lies on the host already. */
  lendState<Result>(use: (state: TrainingState) => Promise<Result>): Promise<Result>;
  release(): Promise<void>;
}

/** What computes a step: a device of onnxruntime, or the backend of the user's tfjs. */
export type Compute = { readonly device: ConcreteDevice } | { readonly tf: TfjsModule };

/**
 * The engine that suits the device and the model: one graph for the whole step, in a Loop where steps are short; or,
 * on the cpu, gradients and update apart, which holds a large model once instead of twice and adds up the gradients of
 * several batches. On webgpu several batches are added up by a session of their own; on cuda, whose state is copied for
 * every run, the graph itself goes through them. With tfjs, its engine.
 */
export async function createTrainingEngine(
  settings: Omit<TrainingGraphSettings, 'mode' | 'maxBucketElements'>,
  compute: Compute & { readonly accumulationSteps: number },
  initial: TrainingState,
  batches: BatchSupply,
  schedules: StepSchedules,
): Promise<StepEngine> {
  const { accumulationSteps } = compute;
  if ('tf' in compute)
    return createTfjsEngine(asTfjs(compute.tf), settings, accumulationSteps, initial, batches, schedules);
  const { device } = compute;
  const parameters = settings.model.parameters.reduce((sum, { shape }) => sum + elementCount(shape), 0);
  if (device === 'cpu' && (accumulationSteps > 1 || parameters > LOOP_MAX_PARAMETERS))
    return createSplitEngine(settings, accumulationSteps, initial, batches, schedules);
  if (device === 'webgpu' && accumulationSteps > 1)
    return AccumulatingTrainingEngine.create(
      { ...settings, accumulationSteps },
      device,
      initial,
      batches,
      schedules,
    );
  return TrainingEngine.create({ ...settings, accumulationSteps }, device, initial, batches, schedules);
}

/** @throws {InvalidArgumentError} when engine, tf and device do not go together. */
export function refuseWrongEngine(
  {
    engine = 'onnxruntime',
    tf,
  }: { readonly engine?: string | undefined; readonly tf?: TfjsModule | undefined },
  device: Device,
): void {
  if (engine !== 'onnxruntime' && engine !== 'tfjs')
    throw new InvalidArgumentError(`engine '${engine}' is unknown: use 'onnxruntime' or 'tfjs'`);
  if (engine === 'onnxruntime' && tf)
    throw new InvalidArgumentError("tf is given, but is for engine 'tfjs' only: set engine: 'tfjs'");
  if (engine === 'onnxruntime') return;
  asTfjs(tf);
  if (device !== 'auto')
    throw new InvalidArgumentError(
      `device is '${device}', but engine 'tfjs' runs on the backend that tf has: leave device out, and choose with tf.setBackend()`,
    );
}
