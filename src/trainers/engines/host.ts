import { collectGarbage } from '#platform/system';
import type { StepScalars } from '../../graph/optimizer.ts';
import { hwnc } from '../../nn/hwnc.ts';
import { GradientSession } from '../../runtime/ort/gradient-session.ts';
import { hostTensor } from '../../runtime/session.ts';
import { asHostTensors, type BatchInputs, type DropoutInput } from '../step/batch.ts';
import {
  buildGradientGraph,
  buildLossGraph,
  gradientName,
  LOSS_SCALE,
  reportedNames,
  type StackedTerms,
  type StepReport,
  shapeIn,
  stackMeans,
} from '../step/loss-graph.ts';
import { type LossScaler, lossScalerOf, lossScalerVector, nextLossScaler } from '../step/loss-scaler.ts';
import type { StepSettings } from '../step/settings.ts';
import type { StateKind, TrainingState } from '../step/update.ts';
import { type Backend, gradientScale, meanReport } from './backend.ts';
import { HostState } from './host-state.ts';
import { MEANS, MeansSession } from './means-session.ts';

/** The order in which the cpu trains; see docs/performance.md. The state outside has the order of the state dict. */
const LAYOUT = hwnc;

/**
 * The cpu for large models and for steps of several batches: a session writes the gradients of a batch into the host's
 * state, which WebAssembly kernels update in place. A large model is held once instead of twice.
 */
export class HostBackend implements Backend {
  readonly reported: readonly string[];
  private readonly terms: Float32Array;
  private scaler: LossScaler<number> | undefined;
  private begun = false;

  private constructor(
    private readonly session: GradientSession,
    private readonly held: HostState,
    private readonly settings: StepSettings,
    terms: StackedTerms,
    readonly dropouts: readonly DropoutInput[],
    private readonly measuring: MeansSession | undefined,
    initial: TrainingState,
  ) {
    this.terms = new Float32Array(terms.names.length);
    this.reported = reportedNames(settings, terms);
    if (settings.computeDtype === 'float16') this.scaler = lossScalerOf(initial.get('loss_scaler'));
  }

  /** @param initial the state to start from, which is copied; a kind that is missing starts at zero. */
  static async create(settings: StepSettings, initial: TrainingState): Promise<HostBackend> {
    const { model, ema, accumulationSteps } = settings;
    const held = new HostState(model.parameters, LAYOUT, { ema, sum: accumulationSteps > 1 }, initial);
    const { graph, terms, means, dropouts } = buildGradientGraph(settings, LAYOUT);
    const parameters = held.parameters().map(({ spec, value, gradient }) => ({
      name: spec.name,
      gradientName: gradientName(spec.name),
      shape: shapeIn(LAYOUT, spec),
      value,
      gradient,
    }));
    const session = await GradientSession.create(graph, parameters);
    const measuring = means.size > 0 ? await meansSession(settings) : undefined;
    return new HostBackend(session, held, settings, terms, dropouts, measuring, initial);
  }

  get stepMeans(): readonly string[] {
    return this.measuring?.names ?? [];
  }

  async means(batch: BatchInputs): Promise<Float32Array> {
    const parameters = this.held
      .parameters()
      .map(({ spec, value }) => [spec.name, hostTensor('float32', shapeIn(LAYOUT, spec), value)] as const);
    const feeds = { ...asHostTensors(batch), ...Object.fromEntries(parameters) };
    return (await this.measuring?.run(feeds)) ?? new Float32Array();
  }

  async accumulate(batch: BatchInputs, isFirst: boolean): Promise<void> {
    if (!this.begun) collectGarbage();
    this.begun = true;
    const { scale = 1 } = this.scaler ?? {};
    const lossScale = hostTensor('float32', [], Float32Array.of(scale));
    const terms = await this.session.run({ ...asHostTensors(batch), [LOSS_SCALE]: lossScale });
    this.held.addGradient(isFirst);
    if (isFirst) this.terms.fill(0);
    terms.forEach((term, i) => {
      this.terms[i] = (this.terms[i] ?? 0) + term;
    });
  }

  async update(scalars: StepScalars<number>, check: (report: StepReport) => void): Promise<StepReport> {
    const { held, settings } = this;
    const { scale = 1 } = this.scaler ?? {};
    const norm = held.gradientNorm() / scale;
    const counts = Number.isFinite(norm);
    const scaler = this.scaler && nextLossScaler(this.scaler, counts);
    const report = meanReport(this.reported, this.terms, norm, settings.accumulationSteps, scaler);
    check(report);
    this.scaler = scaler;
    if (counts) held.update(settings.adam, { ...scalars, gradientScale: gradientScale(settings, norm) / scale });
    return report;
  }

  async state(): Promise<Map<StateKind, Float32Array>> {
    return new Map([...this.held.copy(), ...this.scalerState()]);
  }

  withState<Result>(use: (state: TrainingState) => Promise<Result>): Promise<Result> {
    return this.held.withState((state) => use(new Map([...state, ...this.scalerState()])));
  }

  private scalerState(): [StateKind, Float32Array][] {
    return this.scaler ? [['loss_scaler', lossScalerVector(this.scaler)]] : [];
  }

  async release(): Promise<void> {
    await this.measuring?.release();
    await this.session.release();
  }
}

function meansSession(settings: StepSettings): Promise<MeansSession> {
  const { graph, means } = buildLossGraph(settings, LAYOUT, 'means');
  graph.output(MEANS, stackMeans(means));
  return MeansSession.create(graph, [...means.keys()], 'cpu', { plansMemory: false });
}
