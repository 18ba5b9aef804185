import type { StepScalars } from '../../graph/optimizer.ts';
import type { BatchInputs, DropoutInput } from '../step/batch.ts';
import { reportOf, type StepReport } from '../step/loss-graph.ts';
import type { LossScaler } from '../step/loss-scaler.ts';
import type { StepSettings } from '../step/settings.ts';
import type { StateKind, TrainingState } from '../step/update.ts';

// What the engine asks of whatever computes a step.

/** Holds the state of a run: in memory of the host, on a device of onnxruntime, or on a backend of tfjs. */
export interface StateHolder {
  /** The names of what a step reports, in order. */
  readonly reported: readonly string[];
  /** A copy of the state on the host. */
  state(): Promise<Map<StateKind, Float32Array>>;
  /** Lets `use` read the state until its promise resolves, without a copy; absent where that is not possible. */
  withState?<Result>(use: (state: TrainingState) => Promise<Result>): Promise<Result>;
  release(): Promise<void>;
}

/** Computes steps batch after batch. */
export interface Backend extends StateHolder {
  /** The dropouts whose random integers every batch brings along. */
  readonly dropouts: readonly DropoutInput[];
  /** The means over the step that the loss asks for, by name; every batch brings them along. Often there are none. */
  readonly stepMeans: readonly string[];
  /** A forward pass for the means of a batch, in the order of `stepMeans`. */
  means(batch: BatchInputs): Promise<Float32Array>;
  /**
   * Adds the gradient of a batch, its loss and its terms to those of the step.
   *
   * @param index of the batch among those of this process, from 0, which begins a step.
   */
  accumulate(batch: BatchInputs, index: number): Promise<void>;
  /**
   * Clipping, the optimizer and the moving average with the mean gradient of the step.
   *
   * @param check is called with the report before it is returned, and throws where the step must not count.
   */
  update(scalars: StepScalars<number>, check: (report: StepReport) => void): Promise<StepReport>;
}

/** The means of a step from the sums over its batches, in float32, and the loss scaler after the step. */
export function meanReport(
  names: readonly string[],
  terms: Float32Array,
  norm: number,
  batches: number,
  scaler?: LossScaler<number>,
): StepReport {
  const levels = scaler ? [scaler.scale, scaler.skippedSteps] : [];
  return reportOf(names, Float32Array.of(...terms.map((term) => term / batches), norm / batches, ...levels));
}

/** What an accumulated gradient is multiplied by: clipping to a global norm, and 1 over the batches in it. */
export function gradientScale({ maxGradNorm, batchesPerStep }: StepSettings, norm: number): number {
  const clipping = maxGradNorm > 0 ? Math.min(1, maxGradNorm / (norm / batchesPerStep + 1e-6)) : 1;
  return clipping / batchesPerStep;
}
