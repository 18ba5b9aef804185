import { InvalidArgumentError } from '../errors.ts';
import { channelsFirst } from '../graph/feature-maps/index.ts';
import { planFlatBuckets } from '../graph/flat-state.ts';
import type { Value } from '../graph/graph.ts';
import { adamScalars } from '../graph/optimizer.ts';
import type { Tfjs, TfTensor } from '../runtime/tfjs/tf-module.ts';
import { TfjsTrainingSession } from '../runtime/tfjs/tfjs-training-session.ts';
import type { StepBatches } from './batch-source.ts';
import { buildLossGraph, LOSS_TERMS, type LossGraph } from './gradient-graph.ts';
import type { BatchSupply } from './prefetched-batches.ts';
import type { StepEngine } from './step-engine.ts';
import { refuseNonFinite, type StepSchedules, type TrainingState } from './training-engine.ts';
import { STATE_KINDS, type StateKind, type TrainingGraphSettings } from './training-graph.ts';

/**
 * Runs training steps with tfjs: the same forward graph and loss as the other engines, differentiated by tfjs, the
 * same batches, clipping, optimizer and average.
 */
export class TfjsTrainingEngine implements StepEngine {
  /** Every step is long enough to look for an interruption after it. */
  readonly maxStepsPerRun = 1;

  private constructor(
    private readonly tf: Tfjs,
    private readonly session: TfjsTrainingSession,
    private readonly inputs: LossGraph['graph']['inputs'],
    private readonly settings: TrainingGraphSettings,
    private readonly accumulationSteps: number,
    private readonly batches: BatchSupply,
    private readonly schedules: StepSchedules,
  ) {}

  /**
   * @param tf the tfjs module; everything runs on the backend that it has at the time.
   * @param initial a vector for each kind of state; a kind that is missing starts at zero.
   * @throws {GraphError} that lists every op of the graph that tfjs cannot compute.
   * @throws {InvalidArgumentError} for what only the gradients of this package know.
   */
  static async create(
    tf: Tfjs,
    settings: Omit<TrainingGraphSettings, 'mode' | 'maxBucketElements'>,
    accumulationSteps: number,
    initial: TrainingState,
    batches: BatchSupply,
    schedules: StepSchedules,
  ): Promise<TfjsTrainingEngine> {
    const graphSettings = { ...settings, mode: 'single' as const };
    const [bucket] = planFlatBuckets(settings.model.parameters);
    if (!bucket) throw new InvalidArgumentError('the model has no parameters');
    const { graph, parameters, loss, terms, dropouts } = buildLossGraph(graphSettings, channelsFirst);
    refuseUnsupported(graphSettings, dropouts.length > 0);
    const vector = (kind: StateKind) => initial.get(kind) ?? new Float32Array(bucket.length);
    const session = await TfjsTrainingSession.create(
      tf,
      { parameters: [...parameters.values()], loss, terms },
      bucket,
      {
        parameters: vector('parameters'),
        first_moment: vector('first_moment'),
        second_moment: vector('second_moment'),
        ema: settings.ema ? vector('ema') : undefined,
      },
    );
    return new TfjsTrainingEngine(
      tf,
      session,
      graph.inputs,
      graphSettings,
      accumulationSteps,
      batches,
      schedules,
    );
  }

  /** See `TrainingEngine.run`. */
  async run(first: number, count: number): Promise<Float32Array[]> {
    const rows: Float32Array[] = [];
    for (let index = first; index < first + count; index++) rows.push(await this.step(index));
    return rows;
  }

  async state(): Promise<Map<StateKind, Float32Array>> {
    const state = await this.session.state();
    return new Map(
      STATE_KINDS.flatMap((kind) => {
        const vector = state[kind];
        return vector ? [[kind, vector] as const] : [];
      }),
    );
  }

  async release(): Promise<void> {
    this.session.release();
  }

  /** The row of `STEP_METRICS` of step `index` (from 0). */
  private async step(index: number): Promise<Float32Array> {
    const { adam, maxGradNorm } = this.settings;
    this.session.clear();
    const batches = await this.batches.steps(index, 1);
    for (const feeds of this.feeds(batches)) this.session.accumulate(feeds);
    const { terms, squaredNorm } = await this.session.totals();
    const step = index + 1;
    const norm = Math.sqrt(squaredNorm) / this.accumulationSteps;
    const row = new Float32Array(LOSS_TERMS.length + 1);
    row.set(terms.map((term) => term / this.accumulationSteps));
    row[LOSS_TERMS.length] = norm;
    refuseNonFinite(row, step);
    const clipping = maxGradNorm > 0 ? Math.min(1, maxGradNorm / (norm + 1e-6)) : 1;
    this.session.update(adam, {
      ...adamScalars(step, this.schedules.learningRate(step), adam),
      gradientScale: clipping / this.accumulationSteps,
      oneMinusDecay: 1 - this.schedules.emaDecay(step),
    });
    return row;
  }

  /** The inputs of each batch of a step. */
  private *feeds({ clean, noise, timestep, classLabels }: StepBatches): Generator<Map<Value, TfTensor>> {
    const { batchSize, model } = this.settings;
    const samples = [1, batchSize, ...model.sampleShape];
    const size = clean.length / this.accumulationSteps;
    for (let batch = 0; batch < this.accumulationSteps; batch++) {
      const part = (values: Float32Array) =>
        this.tf.tensor(values.slice(batch * size, (batch + 1) * size), samples, 'float32');
      const perSample = (values: Int32Array) =>
        this.tf.tensor(values.slice(batch * batchSize, (batch + 1) * batchSize), [1, batchSize], 'int32');
      const named = new Map([
        ['clean', part(clean)],
        ['noise', part(noise)],
        ['timestep', perSample(timestep)],
        ...(classLabels ? [['class_labels', perSample(classLabels)] as const] : []),
      ]);
      yield new Map(
        this.inputs.flatMap((input) => {
          const tensor = named.get(input.name);
          return tensor ? [[input, tensor] as const] : [];
        }),
      );
    }
  }
}

/** tfjs differentiates by itself, and does not see what `stopGradient` and `checkpoint` tell this package's gradients. */
function refuseUnsupported({ loss, gradientCheckpointing }: TrainingGraphSettings, dropout: boolean): void {
  const found = [
    loss.learnsVariance && `the loss '${loss.config.name}' of a learned variance`,
    gradientCheckpointing && 'gradient_checkpointing',
    dropout && "the model's dropout",
  ].find(Boolean);
  if (found)
    throw new InvalidArgumentError(
      `engine 'tfjs' does not train with ${found}: leave it out, or use engine 'onnxruntime'`,
    );
}
