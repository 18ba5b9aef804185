import { pixelsFirst } from '../graph/feature-maps/index.ts';
import { adamScalars } from '../graph/optimizer.ts';
import { collectGarbage } from '../runtime/collect-garbage.ts';
import { GradientSession } from '../runtime/gradient-session.ts';
import { hostTensor } from '../runtime/session.ts';
import { type DropoutInput, dropoutFeeds } from './dropout-inputs.ts';
import { buildGradientGraph, gradientName, LOSS_TERMS, shapeIn } from './gradient-graph.ts';
import { HostState } from './host-state.ts';
import type { BatchSupply } from './prefetched-batches.ts';
import { refuseNonFinite, type StepSchedules, type TrainingState } from './training-engine.ts';
import type { StateKind, TrainingGraphSettings } from './training-graph.ts';

/** The order in which the cpu trains; see docs/performance.md. The state outside has the order of the state dict. */
const MAPS = pixelsFirst;

/**
 * Runs training steps on the cpu for large models and for steps of several batches: gradients by one graph, batch after
 * batch, then one update of the state in place.
 */
export class SplitTrainingEngine {
  /** Every step is long enough to look for an interruption after it. */
  readonly maxStepsPerRun = 1;
  private started = false;

  private constructor(
    private readonly session: GradientSession,
    private readonly hostState: HostState,
    private readonly settings: TrainingGraphSettings,
    private readonly dropouts: readonly DropoutInput[],
    private readonly accumulationSteps: number,
    private readonly batches: BatchSupply,
    private readonly schedules: StepSchedules,
  ) {}

  /**
   * @param settings `batchSize` is that of one batch; `batches` gives `accumulationSteps` times as many samples a step.
   * @param initial the state to start from, a vector for each kind, which is copied; a kind that is missing starts at
   * zero.
   */
  static async create(
    settings: Omit<TrainingGraphSettings, 'mode' | 'maxBucketElements'>,
    accumulationSteps: number,
    initial: TrainingState,
    batches: BatchSupply,
    schedules: StepSchedules,
  ): Promise<SplitTrainingEngine> {
    const graphSettings = { ...settings, mode: 'single' as const };
    const kinds = { ema: settings.ema, sum: accumulationSteps > 1 };
    const hostState = new HostState(settings.model.parameters, MAPS, kinds, initial);
    const { graph, dropouts } = buildGradientGraph(graphSettings, MAPS);
    const session = await GradientSession.create(
      graph,
      hostState.parameters().map(({ spec, value, gradient }) => ({
        name: spec.name,
        gradientName: gradientName(spec.name),
        shape: shapeIn(MAPS, spec),
        value,
        gradient,
      })),
    );
    return new SplitTrainingEngine(
      session,
      hostState,
      graphSettings,
      dropouts,
      accumulationSteps,
      batches,
      schedules,
    );
  }

  /** See `TrainingEngine.run`. */
  async run(first: number, count: number): Promise<Float32Array[]> {
    if (!this.started) collectGarbage();
    this.started = true;
    const rows: Float32Array[] = [];
    for (let index = first; index < first + count; index++) rows.push(await this.step(index));
    return rows;
  }

  async state(): Promise<Map<StateKind, Float32Array>> {
    return this.hostState.copy();
  }

  release(): Promise<void> {
    return this.session.release();
  }

  /** The row of `STEP_METRICS` of step `index` (from 0). */
  private async step(index: number): Promise<Float32Array> {
    const { batchSize, model, adam, maxGradNorm } = this.settings;
    const { clean, noise, timestep, classLabels } = await this.batches.steps(index, 1);
    const samples = [1, batchSize, ...model.sampleShape];
    const size = clean.length / this.accumulationSteps;
    const row = new Float32Array(LOSS_TERMS.length + 1);
    for (let batch = 0; batch < this.accumulationSteps; batch++) {
      const part = (values: Float32Array) => values.subarray(batch * size, (batch + 1) * size);
      const perSample = (values: Int32Array) =>
        hostTensor('int32', [1, batchSize], values.subarray(batch * batchSize, (batch + 1) * batchSize));
      const terms = await this.session.run({
        clean: hostTensor('float32', samples, part(clean)),
        noise: hostTensor('float32', samples, part(noise)),
        timestep: perSample(timestep),
        ...(classLabels ? { class_labels: perSample(classLabels) } : {}),
        ...dropoutFeeds(this.dropouts, this.batches, index, batch),
      });
      this.hostState.addGradient(batch === 0);
      terms.forEach((term, i) => {
        row[i] = (row[i] as number) + term / this.accumulationSteps;
      });
    }
    const step = index + 1;
    const norm = this.hostState.gradientNorm() / this.accumulationSteps;
    row[LOSS_TERMS.length] = norm;
    refuseNonFinite(row, step);
    const clipping = maxGradNorm > 0 ? Math.min(1, maxGradNorm / (norm + 1e-6)) : 1;
    this.hostState.update(adam, {
      ...adamScalars(step, this.schedules.learningRate(step), adam),
      gradientScale: clipping / this.accumulationSteps,
      oneMinusDecay: 1 - this.schedules.emaDecay(step),
    });
    return row;
  }
}
