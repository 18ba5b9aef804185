import { adamScalars } from '../../graph/optimizer.ts';
import type { ConcreteDevice } from '../../runtime/device.ts';
import { TrainingSession } from '../../runtime/ort/training-session.ts';
import { float32Data, hostTensor, type RuntimeTensor } from '../../runtime/session.ts';
import type { BatchSupply } from '../data/prefetched-batches.ts';
import { buildAccumulationGraphs } from '../step/accumulation-graphs.ts';
import { asHostTensors, type BatchPlan, batchesOfStep } from '../step/batch-inputs.ts';
import {
  STEP_METRICS,
  type StateKind,
  type StateVector,
  type TrainingGraphSettings,
} from '../step/training-graph.ts';
import {
  joinBuckets,
  refuseNonFinite,
  type StepSchedules,
  splitByBucket,
  type TrainingState,
  WEBGPU_MAX_BUCKET_ELEMENTS,
} from './training-engine.ts';

/** Steps of several batches with parameters, sums of gradients and moments on the device throughout. */
export class AccumulatingTrainingEngine {
  /** Every step is long enough to look for an interruption after it. */
  readonly maxStepsPerRun = 1;

  private constructor(
    private readonly accumulation: TrainingSession,
    private readonly update: TrainingSession,
    private readonly plan: BatchPlan & { readonly settings: TrainingGraphSettings },
    private readonly vectors: readonly StateVector[],
    private readonly schedules: StepSchedules,
  ) {}

  /**
   * @param options `batchSize` is that of one batch; `batches` gives `accumulationSteps` times as many samples a step.
   * @param initial see `TrainingEngine.create`.
   */
  static async create(
    options: Omit<TrainingGraphSettings, 'mode'> & { readonly accumulationSteps: number },
    device: ConcreteDevice,
    initial: TrainingState,
    batches: BatchSupply,
    schedules: StepSchedules,
    { forbidFallback = false }: { forbidFallback?: boolean } = {},
  ): Promise<AccumulatingTrainingEngine> {
    const settings = {
      maxBucketElements: device === 'webgpu' ? WEBGPU_MAX_BUCKET_ELEMENTS : undefined,
      ...options,
      mode: 'single' as const,
    };
    const { accumulate, update, state, sums, dropouts } = buildAccumulationGraphs(settings);
    const slots = state.map(({ name, bucket }) => ({ name, length: bucket.length }));
    const accumulation = await TrainingSession.create(accumulate, sums, new Map(), device, {
      forbidFallback,
    });
    try {
      const start = splitByBucket(state, initial);
      const updating = await TrainingSession.create(update, slots, start, device, { forbidFallback });
      const plan = { settings, dropouts, accumulationSteps: options.accumulationSteps, batches };
      return new AccumulatingTrainingEngine(accumulation, updating, plan, state, schedules);
    } catch (error) {
      await accumulation.release();
      throw error;
    }
  }

  /** See `TrainingEngine.run`. */
  async run(first: number, count: number): Promise<Float32Array[]> {
    const rows: Float32Array[] = [];
    for (let index = first; index < first + count; index++) rows.push(await this.step(index));
    return rows;
  }

  async state(): Promise<Map<StateKind, Float32Array>> {
    return joinBuckets(this.vectors, await this.update.state());
  }

  async lendState<Result>(use: (state: TrainingState) => Promise<Result>): Promise<Result> {
    return use(await this.state());
  }

  async release(): Promise<void> {
    await this.accumulation.release();
    await this.update.release();
  }

  /** The row of `STEP_METRICS` of step `index` (from 0). */
  private async step(index: number): Promise<Float32Array> {
    const { adam } = this.plan.settings;
    const parameters = this.usedBy(this.accumulation, this.update.tensors);
    let keep_sum = 0;
    for await (const batch of batchesOfStep(this.plan, index)) {
      const feeds = {
        ...asHostTensors(batch),
        keep_sum: hostTensor('float32', [1], Float32Array.of(keep_sum)),
      };
      await this.accumulation.run({ ...parameters, ...this.usedBy(this.accumulation, feeds) });
      keep_sum = 1;
    }
    const step = index + 1;
    const { stepSize, epsilon, keep } = adamScalars(step, this.schedules.learningRate(step), adam);
    const scalar = (value: number) => hostTensor('float32', [1], Float32Array.of(value));
    const outputs = await this.update.run({
      ...this.accumulation.tensors,
      ...this.usedBy(this.update, {
        step_size: scalar(stepSize),
        epsilon: scalar(epsilon),
        keep: scalar(keep),
        one_minus_decay: scalar(1 - this.schedules.emaDecay(step)),
      }),
    });
    const row = float32Data(outputs.metrics, 'metrics').slice(0, STEP_METRICS.length);
    refuseNonFinite(row, step);
    return row;
  }

  /** An input that nothing uses is not among those of a session. */
  private usedBy(
    session: TrainingSession,
    feeds: Readonly<Record<string, RuntimeTensor>>,
  ): Record<string, RuntimeTensor> {
    const names = session.inputNames;
    return Object.fromEntries(Object.entries(feeds).filter(([name]) => names.has(name)));
  }
}
