import { planFlatBuckets } from '../graph/flat-state.ts';
import { adamScalars } from '../graph/optimizer.ts';
import { hostTensor } from '../runtime/session.ts';
import { SplitTrainingSession } from '../runtime/split-training-session.ts';
import type { BatchSource } from './batch-source.ts';
import {
  buildGradientGraph,
  buildSquareSumGraph,
  buildUpdateGraph,
  gradientName,
  LOSS_TERMS,
} from './gradient-graph.ts';
import { refuseNonFinite, type StepSchedules, type TrainingState } from './training-engine.ts';
import { STATE_KINDS, type StateKind, type TrainingGraphSettings } from './training-graph.ts';

/**
 * Runs training steps on the cpu for large models and for steps of several batches: gradients by one graph, batch after
 * batch, then one update of the state in place.
 */
export class SplitTrainingEngine {
  /** Every step is long enough to look for an interruption after it. */
  readonly maxStepsPerRun = 1;

  private constructor(
    private readonly session: SplitTrainingSession,
    private readonly settings: TrainingGraphSettings,
    private readonly accumulationSteps: number,
    private readonly batches: BatchSource,
    private readonly schedules: StepSchedules,
  ) {}

  /**
   * @param settings `batchSize` is that of one batch; `batches` gives `accumulationSteps` times as many samples a step.
   * @param initial the state to start from, a vector for each kind; a kind that is missing starts at zero.
   */
  static async create(
    settings: Omit<TrainingGraphSettings, 'mode' | 'maxBucketElements'>,
    accumulationSteps: number,
    initial: TrainingState,
    batches: BatchSource,
    schedules: StepSchedules,
  ): Promise<SplitTrainingEngine> {
    const graphSettings = { ...settings, mode: 'single' as const };
    const [bucket] = planFlatBuckets(settings.model.parameters);
    const kinds = STATE_KINDS.filter((kind) => settings.ema || kind !== 'ema');
    const session = await SplitTrainingSession.create(
      {
        gradient: buildGradientGraph(graphSettings),
        update: buildUpdateGraph(graphSettings),
        squareSum: buildSquareSumGraph(),
      },
      (bucket?.entries ?? []).map((entry) => ({ ...entry, gradientName: gradientName(entry.name) })),
      new Map(kinds.map((kind) => [kind, initial.get(kind) ?? new Float32Array(bucket?.length ?? 0)])),
    );
    return new SplitTrainingEngine(session, graphSettings, accumulationSteps, batches, schedules);
  }

  /** See `TrainingEngine.run`. */
  async run(first: number, count: number): Promise<Float32Array[]> {
    const rows: Float32Array[] = [];
    for (let index = first; index < first + count; index++) rows.push(await this.step(index));
    return rows;
  }

  async state(): Promise<Map<StateKind, Float32Array>> {
    const vectors = await this.session.state();
    return new Map(
      STATE_KINDS.flatMap((kind) => {
        const vector = vectors.get(kind);
        return vector ? [[kind, vector] as const] : [];
      }),
    );
  }

  release(): Promise<void> {
    return this.session.release();
  }

  /** The row of `STEP_METRICS` of step `index` (from 0). */
  private async step(index: number): Promise<Float32Array> {
    const { batchSize, model, adam, maxGradNorm } = this.settings;
    const { clean, noise, timestep } = this.batches.steps(index, 1);
    const samples = [1, batchSize, ...model.sampleShape];
    const size = clean.length / this.accumulationSteps;
    const row = new Float32Array(LOSS_TERMS.length + 1);
    for (let batch = 0; batch < this.accumulationSteps; batch++) {
      const part = (values: Float32Array) => values.subarray(batch * size, (batch + 1) * size);
      const terms = await this.session.accumulate({
        clean: hostTensor('float32', samples, part(clean)),
        noise: hostTensor('float32', samples, part(noise)),
        timestep: hostTensor(
          'int32',
          [1, batchSize],
          timestep.subarray(batch * batchSize, (batch + 1) * batchSize),
        ),
      });
      terms.forEach((term, i) => {
        row[i] = (row[i] as number) + term / this.accumulationSteps;
      });
    }
    const step = index + 1;
    refuseNonFinite(row, step);
    const { stepSize, epsilon, keep } = adamScalars(step, this.schedules.learningRate(step), adam);
    row[LOSS_TERMS.length] = await this.session.update(
      { step_size: stepSize, epsilon, keep, one_minus_decay: 1 - this.schedules.emaDecay(step) },
      maxGradNorm,
    );
    refuseNonFinite(row, step);
    return row;
  }
}
