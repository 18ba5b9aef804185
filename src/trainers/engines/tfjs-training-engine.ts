import { InvalidArgumentError } from '../../errors.ts';
import { planFlatBuckets } from '../../graph/flat-vectors.ts';
import type { Value } from '../../graph/graph.ts';
import type { AdamSettings, UpdateScalars } from '../../graph/optimizer.ts';
import { channelsFirst } from '../../nn/layouts.ts';
import type { Tfjs } from '../../runtime/tfjs/tf-module.ts';
import { TfjsTrainingSession } from '../../runtime/tfjs/tfjs-training-session.ts';
import type { BatchSupply } from '../data/prefetched-batches.ts';
import type { BatchInputs } from '../step/batch-inputs.ts';
import { buildLossGraph } from '../step/gradient-graph.ts';
import { STATE_KINDS, type StateKind, type TrainingGraphSettings } from '../step/training-graph.ts';
import { BatchwiseTrainingEngine, type GradientAccumulator } from './batchwise-training-engine.ts';
import type { StepEngine } from './step-engine.ts';
import type { StepSchedules, TrainingState } from './training-engine.ts';

/**
 * An engine on tfjs: the same forward graph and loss as the other engines, differentiated by tfjs, the same batches,
 * clipping, optimizer and average.
 *
 * @param tf the tfjs module; everything runs on the backend that it has at the time.
 * @param initial a vector for each kind of state; a kind that is missing starts at zero.
 * @throws {GraphError} that lists every op of the graph that tfjs cannot compute.
 * @throws {InvalidArgumentError} for what only the gradients of this package know.
 */
export async function createTfjsEngine(
  tf: Tfjs,
  settings: Omit<TrainingGraphSettings, 'mode' | 'maxBucketElements'>,
  accumulationSteps: number,
  initial: TrainingState,
  batches: BatchSupply,
  schedules: StepSchedules,
): Promise<StepEngine> {
  const graphSettings = { ...settings, mode: 'single' as const };
  refuseCheckpointing(graphSettings);
  const [bucket] = planFlatBuckets(settings.model.parameters);
  if (!bucket) throw new InvalidArgumentError('the model has no parameters');
  const { graph, parameters, loss, terms, dropouts } = buildLossGraph(graphSettings, channelsFirst);
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
  const plan = { settings: graphSettings, dropouts, accumulationSteps, batches };
  return new BatchwiseTrainingEngine(new TfjsAccumulator(tf, session, graph.inputs), plan, schedules);
}

/** Gradients and state stay on tfjs's backend; what is read in a step is its totals. */
class TfjsAccumulator implements GradientAccumulator {
  constructor(
    private readonly tf: Tfjs,
    private readonly session: TfjsTrainingSession,
    private readonly inputs: readonly Value[],
  ) {}

  async add(batch: BatchInputs, isFirst: boolean): Promise<void> {
    if (isFirst) this.session.clear();
    const feeds = this.inputs.flatMap((input) => {
      const given = batch.get(input.name);
      if (!given) return [];
      // tfjs's cpu backend computes on the array it is given.
      return [[input, this.tf.tensor(given.data.slice(), [...given.shape], given.dtype)] as const];
    });
    this.session.accumulate(new Map(feeds));
  }

  async totals() {
    const { terms, squaredNorm } = await this.session.totals();
    return { terms, norm: Math.sqrt(squaredNorm) };
  }

  update(adam: AdamSettings, scalars: UpdateScalars): void {
    this.session.update(adam, scalars);
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

  async lendState<Result>(use: (state: TrainingState) => Promise<Result>): Promise<Result> {
    return use(await this.state());
  }

  async release(): Promise<void> {
    this.session.release();
  }
}

/** tfjs differentiates by itself, and does not see what `checkpoint` tells this package's gradients. */
function refuseCheckpointing({ gradientCheckpointing }: TrainingGraphSettings): void {
  if (gradientCheckpointing)
    throw new InvalidArgumentError(
      "engine 'tfjs' does not train with gradient_checkpointing: leave it out, or use engine 'onnxruntime'",
    );
}
