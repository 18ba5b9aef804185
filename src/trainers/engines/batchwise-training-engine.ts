import { type AdamSettings, adamScalars, type UpdateScalars } from '../../graph/optimizer.ts';
import { type BatchInputs, type BatchPlan, batchesOfStep } from '../step/batch-inputs.ts';
import { LOSS_TERMS } from '../step/batch-loss.ts';
import type { StateKind, TrainingGraphSettings } from '../step/training-graph.ts';
import type { StepEngine } from './step-engine.ts';
import { refuseNonFinite, type StepSchedules, type TrainingState } from './training-engine.ts';

/** The gradients of a step's batches, added up, and the state that they update. */
export interface GradientAccumulator {
  /** Adds the gradient of a batch, and its `LOSS_TERMS`, to those of the step, which the first batch begins. */
  add(batch: BatchInputs, isFirst: boolean): Promise<void>;
  /** The sums over the step's batches: of the `LOSS_TERMS`, and the Euclidean norm of the gradient's. */
  totals(): Promise<{ readonly terms: Float32Array; readonly norm: number }>;
  /** `adamStep` and `emaStep` of src/graph/optimizer.ts with the gradient of the step. */
  update(adam: AdamSettings, scalars: UpdateScalars): void;
  /** A copy of the state on the host. */
  state(): Promise<Map<StateKind, Float32Array>>;
  /** See `StepEngine.lendState`. */
  lendState<Result>(use: (state: TrainingState) => Promise<Result>): Promise<Result>;
  release(): Promise<void>;
}

/** Runs steps batch after batch: means of their gradients and terms, clipping, one update. */
export class BatchwiseTrainingEngine implements StepEngine {
  /** Every step is long enough to look for an interruption after it. */
  readonly maxStepsPerRun = 1;

  constructor(
    private readonly accumulator: GradientAccumulator,
    private readonly plan: BatchPlan & { readonly settings: TrainingGraphSettings },
    private readonly schedules: StepSchedules,
  ) {}

  /** See `TrainingEngine.run`. */
  async run(first: number, count: number): Promise<Float32Array[]> {
    const rows: Float32Array[] = [];
    for (let index = first; index < first + count; index++) rows.push(await this.step(index));
    return rows;
  }

  state(): Promise<Map<StateKind, Float32Array>> {
    return this.accumulator.state();
  }

  lendState<Result>(use: (state: TrainingState) => Promise<Result>): Promise<Result> {
    return this.accumulator.lendState(use);
  }

  release(): Promise<void> {
    return this.accumulator.release();
  }

  /** The row of `STEP_METRICS` of step `index` (from 0). */
  private async step(index: number): Promise<Float32Array> {
    const { accumulator, plan, schedules } = this;
    const { adam, maxGradNorm } = plan.settings;
    const count = plan.accumulationSteps;
    let isFirst = true;
    for await (const batch of batchesOfStep(plan, index)) {
      await accumulator.add(batch, isFirst);
      isFirst = false;
    }
    const totals = await accumulator.totals();
    const norm = totals.norm / count;
    const row = new Float32Array(LOSS_TERMS.length + 1);
    row.set(totals.terms.map((term) => term / count));
    row[LOSS_TERMS.length] = norm;
    const step = index + 1;
    refuseNonFinite(row, step);
    const clipping = maxGradNorm > 0 ? Math.min(1, maxGradNorm / (norm + 1e-6)) : 1;
    accumulator.update(adam, {
      ...adamScalars(step, schedules.learningRate(step), adam),
      gradientScale: clipping / count,
      oneMinusDecay: 1 - schedules.emaDecay(step),
    });
    return row;
  }
}
