import type { AdamSettings, UpdateScalars } from '../../graph/optimizer.ts';
import { pixelsFirst } from '../../nn/layouts.ts';
import { collectGarbage } from '../../runtime/collect-garbage.ts';
import { GradientSession } from '../../runtime/ort/gradient-session.ts';
import type { BatchSupply } from '../data/prefetched-batches.ts';
import { asHostTensors, type BatchInputs } from '../step/batch-inputs.ts';
import { LOSS_TERMS } from '../step/batch-loss.ts';
import { buildGradientGraph, gradientName, shapeIn } from '../step/gradient-graph.ts';
import type { StateKind, TrainingGraphSettings } from '../step/training-graph.ts';
import { BatchwiseTrainingEngine, type GradientAccumulator } from './batchwise-training-engine.ts';
import { HostState } from './host-state.ts';
import type { StepEngine } from './step-engine.ts';
import type { StepSchedules, TrainingState } from './training-engine.ts';

/** The order in which the cpu trains; see docs/performance.md. The state outside has the order of the state dict. */
const MAPS = pixelsFirst;

/**
 * An engine on the cpu for large models and for steps of several batches: gradients by one graph, batch after batch, then
 * one update of the state in place.
 *
 * @param settings `batchSize` is that of one batch; `batches` gives `accumulationSteps` times as many samples a step.
 * @param initial the state to start from, a vector for each kind, which is copied; a kind that is missing starts at
 * zero.
 */
export async function createSplitEngine(
  settings: Omit<TrainingGraphSettings, 'mode' | 'maxBucketElements'>,
  accumulationSteps: number,
  initial: TrainingState,
  batches: BatchSupply,
  schedules: StepSchedules,
): Promise<StepEngine> {
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
  const plan = { settings: graphSettings, dropouts, accumulationSteps, batches };
  return new BatchwiseTrainingEngine(new HostAccumulator(session, hostState), plan, schedules);
}

/** The session writes the gradients of a batch into the host's state. */
class HostAccumulator implements GradientAccumulator {
  private readonly terms = new Float32Array(LOSS_TERMS.length);
  private begun = false;

  constructor(
    private readonly session: GradientSession,
    private readonly hostState: HostState,
  ) {}

  async add(batch: BatchInputs, isFirst: boolean): Promise<void> {
    if (!this.begun) collectGarbage();
    this.begun = true;
    const terms = await this.session.run(asHostTensors(batch));
    this.hostState.addGradient(isFirst);
    if (isFirst) this.terms.fill(0);
    terms.forEach((term, i) => {
      this.terms[i] = (this.terms[i] ?? 0) + term;
    });
  }

  async totals() {
    return { terms: this.terms, norm: this.hostState.gradientNorm() };
  }

  update(adam: AdamSettings, scalars: UpdateScalars): void {
    this.hostState.update(adam, scalars);
  }

  async state(): Promise<Map<StateKind, Float32Array>> {
    return this.hostState.copy();
  }

  lendState<Result>(use: (state: TrainingState) => Promise<Result>): Promise<Result> {
    return this.hostState.lend(use);
  }

  release(): Promise<void> {
    return this.session.release();
  }
}
