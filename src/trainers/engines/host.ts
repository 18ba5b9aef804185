import { collectGarbage } from '#platform/system';
import { type Communicator, gatherFloats, SINGLE } from '../../distributed/communicator.ts';
import { sumOverRanks } from '../../distributed/sum.ts';
import { nodeFlops } from '../../graph/cost.ts';
import type { Graph } from '../../graph/graph.ts';
import { momentKinds, type StepScalars } from '../../graph/optimizer.ts';
import { hwnc } from '../../nn/hwnc.ts';
import { type Layout, nchw } from '../../nn/layout.ts';
import { type ConcreteDevice, isCuda } from '../../runtime/device.ts';
import { GradientSession } from '../../runtime/ort/gradient-session.ts';
import { hostTensor, type TensorMap } from '../../runtime/session.ts';
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

/**
 * Below so many operations a node, one thread is as fast as two: a node then takes less than 20 microseconds, and threads
 * spend as much time waiting for each other as they save (docs/performance.md, "Small U-Nets on the CPU").
 */
const MIN_FLOPS_FOR_THREADS = 4e5;

function hasSmallNodes({ nodes }: Graph): boolean {
  return nodes.reduce((sum, node) => sum + nodeFlops(node), 0) < MIN_FLOPS_FOR_THREADS * nodes.length;
}

/** The order of feature maps in which a device trains networks on images, whose weights are inputs; see docs/performance.md. */
export function layoutOn(device: ConcreteDevice): Layout {
  return device === 'cpu' ? hwnc : nchw;
}

/**
 * The cpu for networks on images, for large models and for steps of several batches: a session writes the gradients of a
 * batch into the host's state, which WebAssembly kernels update in place. A large model is held once instead of twice.
 *
 * Ranks add up their gradients and gather the terms of all batches, and every rank makes the same update of its own state.
 * That is also how ranks train on cuda. From Node.js, onnxruntime can leave nothing on a GPU of cuda between two runs, and
 * a step has to stop for the exchange: moments and averages stay on the host, parameters go up and gradients come down.
 */
export class HostBackend implements Backend {
  readonly reported: readonly string[];
  /** Of each batch of this process. */
  private readonly terms: Float32Array;
  private scaler: LossScaler<number> | undefined;
  private begun = false;

  private constructor(
    private readonly session: GradientSession,
    /** The forward pass for the means, where it is not the first part of `session`. */
    private readonly measuring: MeasuringPass | undefined,
    private readonly held: HostState,
    private readonly settings: StepSettings,
    terms: StackedTerms,
    readonly dropouts: readonly DropoutInput[],
    readonly stepMeans: readonly string[],
    initial: TrainingState,
    private readonly communicator: Communicator,
  ) {
    this.terms = new Float32Array(terms.names.length * settings.accumulationSteps);
    this.reported = reportedNames(settings, terms);
    if (settings.computeDtype === 'float16') this.scaler = lossScalerOf(initial.get('loss_scaler'));
  }

  /**
   * @param initial the state to start from, which is copied; a kind that is missing starts at zero.
   * @param communicator the ranks that share a step; default: this process alone.
   * @param device where the gradients are computed; default: the cpu.
   */
  static async create(
    settings: StepSettings,
    initial: TrainingState,
    communicator: Communicator = SINGLE,
    device: ConcreteDevice = 'cpu',
  ): Promise<HostBackend> {
    const { objective, optimizer, ema, accumulationSteps } = settings;
    const onCuda = isCuda(device);
    // The state outside has the order of the state dict.
    const layout = layoutOn(device);
    const kinds = { moments: momentKinds(optimizer), ema, batches: accumulationSteps };
    const held = new HostState(objective.parameters, layout, kinds, initial);
    const { graph, terms, means, dropouts } = buildGradientGraph(settings, layout, onCuda ? 'cuda' : 'any');
    const parameters = held.parameters().map(({ spec, value, gradient }) => ({
      name: spec.name,
      gradientName: gradientName(spec.name),
      shape: shapeIn(layout, spec),
      value,
      gradient,
    }));
    // What the forward pass leaves for the backward pass would come to the host and go back: a forward pass more is less.
    const cutAt = means.size > 0 && !onCuda ? MEANS : undefined;
    if (cutAt) graph.output(cutAt, stackMeans(means));
    const maxThreads = hasSmallNodes(graph) ? 1 : undefined;
    const session = await GradientSession.create(graph, parameters, { device, cutAt, maxThreads });
    try {
      const measuring = means.size > 0 && onCuda ? await measuringPass(settings, parameters, device) : undefined;
      const names = [...means.keys()];
      return new HostBackend(session, measuring, held, settings, terms, dropouts, names, initial, communicator);
    } catch (error) {
      await session.release();
      throw error;
    }
  }

  means(batch: BatchInputs): Promise<Float32Array> {
    const { measuring, session } = this;
    const feeds = asHostTensors(batch);
    return measuring ? measuring.session.run({ ...feeds, ...measuring.parameters }) : session.forward(feeds);
  }

  async accumulate(batch: BatchInputs, index: number): Promise<void> {
    if (!this.begun) collectGarbage();
    this.begun = true;
    const { session, scaler: { scale = 1 } = {} } = this;
    const feeds = { ...asHostTensors(batch), [LOSS_SCALE]: hostTensor('float32', [], Float32Array.of(scale)) };
    // Of the first batch, the forward pass for its means was the last, and its values are still there.
    if (session.isCut && index > 0) await session.forward(feeds);
    const terms = await session.run(feeds);
    this.held.addGradient(index);
    this.terms.set(terms, index * terms.length);
  }

  async update(scalars: StepScalars<number>, check: (report: StepReport) => void): Promise<StepReport> {
    const { held, settings, communicator } = this;
    const { scale = 1 } = this.scaler ?? {};
    for (const gradient of held.gradients()) await sumOverRanks(communicator, gradient);
    const norm = held.gradientNorm() / scale;
    const counts = Number.isFinite(norm);
    const scaler = this.scaler && nextLossScaler(this.scaler, counts);
    const terms = sumsOfBatches(await gatherFloats(communicator, this.terms), settings.batchesPerStep);
    const report = meanReport(this.reported, terms, norm, settings.batchesPerStep, scaler);
    check(report);
    this.scaler = scaler;
    if (counts) held.update(settings.optimizer, { ...scalars, gradientScale: gradientScale(settings, norm) / scale });
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
    await this.measuring?.session.release();
    await this.session.release();
  }
}

interface MeasuringPass {
  readonly session: MeansSession;
  /** They lie in the host's state. */
  readonly parameters: TensorMap;
}

/** A forward pass on cuda for the means that the loss wants over the step. */
async function measuringPass(
  settings: StepSettings,
  parameters: readonly { readonly name: string; readonly shape: readonly number[]; readonly value: Float32Array }[],
  device: ConcreteDevice,
): Promise<MeasuringPass> {
  const { graph, means } = buildLossGraph(settings, nchw, 'means', 'cuda');
  graph.output(MEANS, stackMeans(means));
  const tensors = parameters.map(({ name, shape, value }) => [name, hostTensor('float32', shape, value)] as const);
  const session = await MeansSession.create(graph, [...means.keys()], device);
  return { session, parameters: Object.fromEntries(tensors) };
}

/** The sums of what each batch reports, one batch after the other. */
function sumsOfBatches(terms: Float32Array, batches: number): Float32Array {
  const sums = new Float32Array(terms.length / batches);
  terms.forEach((term, i) => {
    sums[i % sums.length] = (sums[i % sums.length] as number) + term;
  });
  return sums;
}
