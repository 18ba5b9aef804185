import { InvalidArgumentError } from '../../errors.ts';
import { planFlatVectors } from '../../graph/flat-vectors.ts';
import type { Value } from '../../graph/graph.ts';
import { momentKinds, type StepScalars } from '../../graph/optimizer.ts';
import { nchw } from '../../nn/layout.ts';
import type { Tfjs, TfTensor } from '../../runtime/tfjs/tf-module.ts';
import { TfjsTrainingSession } from '../../runtime/tfjs/tfjs-training-session.ts';
import type { BatchInputs, DropoutInput } from '../step/batch.ts';
import { buildLossGraph, reportedNames, type StackedTerms, type StepReport, stackMeans } from '../step/loss-graph.ts';
import type { StepSettings } from '../step/settings.ts';
import { STATE_KINDS, type StateKind, type TrainingState } from '../step/update.ts';
import { type Backend, gradientScale, meanReport } from './backend.ts';

/**
 * tfjs: the same forward graph and loss as the other backends, differentiated by tfjs, with the same batches, clipping,
 * optimizer and average. Gradients and state stay on tfjs's backend; a step reads its report only.
 */
export class TfjsBackend implements Backend {
  readonly reported: readonly string[];

  private constructor(
    private readonly tf: Tfjs,
    private readonly session: TfjsTrainingSession,
    private readonly settings: StepSettings,
    private readonly inputs: readonly Value[],
    terms: StackedTerms,
    readonly dropouts: readonly DropoutInput[],
    readonly stepMeans: readonly string[],
  ) {
    this.reported = reportedNames(settings, terms);
  }

  /**
   * @param tf the tfjs module; everything runs on the backend that it has at the time.
   * @param initial a vector for each kind of state; a kind that is missing starts at zero.
   * @throws {GraphError} that lists every op of the graph that tfjs cannot compute.
   * @throws {InvalidArgumentError} for what only the gradients of this package know.
   */
  static async create(tf: Tfjs, settings: StepSettings, initial: TrainingState): Promise<TfjsBackend> {
    // tfjs differentiates by itself, and does not see what `checkpoint` tells this package's gradients.
    if (settings.gradientCheckpointing)
      throw new InvalidArgumentError(
        "engine 'tfjs' does not train with gradient_checkpointing: leave it out, or use engine 'onnxruntime'",
      );
    const [flatVector] = planFlatVectors(settings.objective.parameters);
    if (!flatVector) throw new InvalidArgumentError(`the ${settings.objective.className} has no parameters`);
    const { graph, parameters, loss, terms, means, dropouts } = buildLossGraph(settings, nchw);
    const vector = (kind: StateKind) => initial.get(kind) ?? new Float32Array(flatVector.length);
    const moments = momentKinds(settings.optimizer);
    const session = await TfjsTrainingSession.create(
      tf,
      {
        parameters: [...parameters.values()],
        loss,
        terms: terms.values,
        means: means.size > 0 ? stackMeans(means) : undefined,
      },
      flatVector,
      {
        parameters: vector('parameters'),
        first_moment: moments.includes('first_moment') ? vector('first_moment') : undefined,
        second_moment: moments.includes('second_moment') ? vector('second_moment') : undefined,
        ema: settings.ema ? vector('ema') : undefined,
      },
    );
    return new TfjsBackend(tf, session, settings, graph.inputs, terms, dropouts, [...means.keys()]);
  }

  means(batch: BatchInputs): Promise<Float32Array> {
    return this.session.means(this.feeds(batch));
  }

  async accumulate(batch: BatchInputs, index: number): Promise<void> {
    if (index === 0) this.session.clear();
    this.session.accumulate(this.feeds(batch));
  }

  private feeds(batch: BatchInputs): Map<Value, TfTensor> {
    const feeds = this.inputs.flatMap((input) => {
      const given = batch[input.name];
      if (!given) return [];
      // tfjs's cpu backend computes on the array it is given.
      return [[input, this.tf.tensor(given.data.slice(), [...given.shape], given.dtype)] as const];
    });
    return new Map(feeds);
  }

  async update(scalars: StepScalars<number>, check: (report: StepReport) => void): Promise<StepReport> {
    const { session, settings } = this;
    const { terms, squaredNorm } = await session.totals();
    const norm = Math.sqrt(squaredNorm);
    const report = meanReport(this.reported, terms, norm, settings.batchesPerStep);
    check(report);
    session.update(settings.optimizer, { ...scalars, gradientScale: gradientScale(settings, norm) });
    return report;
  }

  async state(): Promise<Map<StateKind, Float32Array>> {
    const vectors = new Map<StateKind, Float32Array>();
    const state = await this.session.state();
    for (const kind of STATE_KINDS) if (state[kind]) vectors.set(kind, state[kind]);
    return vectors;
  }

  async release(): Promise<void> {
    this.session.release();
  }
}
