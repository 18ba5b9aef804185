import { runsBlock } from '#runtime/binding';
import { type Communicator, gatherFloats, SINGLE } from '../../distributed/communicator.ts';
import { DistributedError, NonFiniteLossError } from '../../errors.ts';
import { elementCount } from '../../graph/types.ts';
import { type ConcreteDevice, requireFloat16 } from '../../runtime/device.ts';
import { asTfjs, type TfjsModule } from '../../runtime/tfjs/tf-module.ts';
import type { Batches } from '../data/prefetched-batches.ts';
import {
  type BatchInputs,
  batchInputs,
  type DropoutInput,
  type HostBatch,
  type HostInput,
  lossScalarInputs,
  mapBatch,
  stepMeanName,
} from '../step/batch.ts';
import type { StepReport } from '../step/loss-graph.ts';
import { hasCollapsed, lossScalerOf } from '../step/loss-scaler.ts';
import type { StepSchedule, StepSettings } from '../step/settings.ts';
import type { StateKind, TrainingState } from '../step/update.ts';
import type { Backend, StateHolder } from './backend.ts';
import { FusedBackend } from './fused.ts';

/** Below this many parameters one step is so short that calling it from JavaScript would dominate: use a Loop. */
const LOOP_MAX_PARAMETERS = 4_000_000;

/** What computes a step: a device of onnxruntime, or the backend of the user's tfjs. */
export type Compute = { readonly device: ConcreteDevice } | { readonly tf: TfjsModule };

/**
 * Runs training steps and holds their state: for each batch of a step the backend adds up gradients, then it updates the
 * state. A fused backend runs many steps at once.
 *
 * @example
 * const engine = await Engine.create(settings, { device: 'cpu' }, initial, batches, schedule);
 * const reports = await engine.run(0, 10);
 */
export class Engine {
  /** Steps that did not update the state, because their gradient was not finite. */
  private skippedSteps: number;

  /** @param initial the state that the backend was made with. */
  constructor(
    private readonly backend: Backend | FusedBackend,
    private readonly settings: StepSettings,
    private readonly batches: Batches,
    private readonly schedule: StepSchedule,
    initial: TrainingState = new Map(),
    private readonly communicator: Communicator = SINGLE,
  ) {
    this.skippedSteps = lossScalerOf(initial.get('loss_scaler')).skippedSteps;
  }

  /**
   * An engine with the backend that suits device and model: a Loop over whole steps where steps are short, and on cuda,
   * where onnxruntime copies the state in and out of every run; the host's own memory on the cpu for networks on images,
   * large models and several batches a step, and for several ranks, because a Loop has no place for an exchange.
   *
   * @param initial the state to start from, which is copied; a kind that is missing starts at zero.
   * @param communicator the ranks that share a step; default: this process alone.
   * @throws {DeviceError} when the device does not compute in the type of the settings.
   * @throws {DistributedError} when several ranks are to train on what only one process can use.
   */
  static async create(
    settings: StepSettings,
    compute: Compute,
    initial: TrainingState,
    batches: Batches,
    schedule: StepSchedule,
    communicator: Communicator = SINGLE,
  ): Promise<Engine> {
    const withBackend = (backend: Backend | FusedBackend) =>
      new Engine(backend, settings, batches, schedule, initial, communicator);
    refuseSeveralRanks(compute, communicator);
    // A page that trains points on wasm loads none of the other backends.
    if ('tf' in compute) {
      const { TfjsBackend } = await import('./tfjs.ts');
      return withBackend(await TfjsBackend.create(asTfjs(compute.tf), settings, initial));
    }
    const { device } = compute;
    if (settings.computeDtype === 'float16') await requireFloat16(device, "mixed_precision 'fp16'");
    if (device === 'webgpu') {
      const { DeviceBackend } = await import('./device.ts');
      return withBackend(await DeviceBackend.create(settings, device, initial));
    }
    if (takesStepsOnHost(settings, device, communicator.size)) {
      const { HostBackend } = await import('./host.ts');
      return withBackend(await HostBackend.create(settings, initial, communicator, device));
    }
    return withBackend(await FusedBackend.create(settings, device, initial, batches, schedule));
  }

  /** The most steps of one call of `run`, after which it can be interrupted. */
  get maxStepsPerRun(): number {
    return this.backend instanceof FusedBackend ? this.backend.maxSteps : 1;
  }

  /** The names of what a step reports, in order: `loss`, its terms, `grad_norm`. */
  get reported(): readonly string[] {
    return this.backend.reported;
  }

  /**
   * Runs the steps `first + 1` to `first + count` (the first step of all is 1).
   *
   * @returns the report of each step.
   * @throws {NonFiniteLossError} that names the first step whose loss or gradient was not finite; where the loss is scaled,
   * the step at which so many had been skipped one after another that its scale means nothing any more.
   */
  async run(first: number, count: number): Promise<StepReport[]> {
    if (this.backend instanceof FusedBackend) {
      const reports = await this.backend.steps(first, count, this.skippedSteps);
      for (const [i, report] of reports.entries()) refuseDiverged(report, first + i + 1);
      this.skippedSteps = reports.at(-1)?.skipped_steps ?? 0;
      return reports;
    }
    const reports: StepReport[] = [];
    for (let index = first; index < first + count; index++) reports.push(await this.step(this.backend, index));
    return reports;
  }

  /** A copy of the state on the host. */
  state(): Promise<Map<StateKind, Float32Array>> {
    return this.backend.state();
  }

  /** Lets `use` read the state until its promise resolves, without a copy where it lies on the host already. */
  async withState<Result>(use: (state: TrainingState) => Promise<Result>): Promise<Result> {
    const holder: StateHolder = this.backend;
    return holder.withState?.(use) ?? use(await this.state());
  }

  release(): Promise<void> {
    return this.backend.release();
  }

  private async step(backend: Backend, index: number): Promise<StepReport> {
    const lossScalars = lossScalarInputs(
      mapBatch(this.schedule.lossScalars(index + 1), (value) => Float32Array.of(value)),
    );
    const samples = await this.batches.steps(index, 1);
    const inputs = () => batchesOfStep(this.settings, backend.dropouts, this.batches, samples, index);
    const means = await stepMeans(backend, inputs, lossScalars, this.communicator);
    let done = 0;
    for (const batch of inputs()) await backend.accumulate({ ...batch, ...lossScalars, ...means }, done++);
    const scalars = this.schedule.update(index + 1 - this.skippedSteps);
    const report = await backend.update(scalars, (report) => refuseDiverged(report, index + 1));
    this.skippedSteps = report.skipped_steps ?? 0;
    return report;
  }
}

/** Whether steps are those of `HostBackend`; else cuda and the cpu run those of `FusedBackend`. */
export function takesStepsOnHost(settings: StepSettings, device: ConcreteDevice, ranks: number): boolean {
  const { parameters } = settings.objective;
  const count = parameters.reduce((sum, { shape }) => sum + elementCount(shape), 0);
  const isLarge = settings.batchesPerStep > 1 || count > LOOP_MAX_PARAMETERS;
  // Only the host's steps have the layout in which convolutions are fast. In a browser that has not been measured.
  const isOfImages = !runsBlock && parameters.some(({ isFilter }) => isFilter);
  return ranks > 1 || (device === 'cpu' && (isLarge || isOfImages));
}

/** The means over all batches of a step that the loss asks for, as inputs. */
async function stepMeans(
  backend: Backend,
  batches: () => Iterable<BatchInputs>,
  lossScalars: BatchInputs,
  communicator: Communicator,
): Promise<BatchInputs> {
  const names = backend.stepMeans;
  if (names.length === 0) return {};
  const own: number[] = [];
  // The first batch comes last: a backend that still has what its forward pass left begins the gradients with it.
  for (const batch of [...batches()].reverse()) own.unshift(...(await backend.means({ ...batch, ...lossScalars })));
  const means = await gatherFloats(communicator, Float32Array.from(own));
  const sums = names.map(() => 0);
  for (const [i, mean] of means.entries()) sums[i % sums.length] = (sums[i % sums.length] ?? 0) + mean;
  const count = means.length / names.length;
  return Object.fromEntries(
    names.map((name, i) => [
      stepMeanName(name),
      { dtype: 'float32', shape: [1], data: Float32Array.of((sums[i] ?? 0) / count) },
    ]),
  );
}

/** The inputs of each batch of step `index` (from 0), one after another. */
function* batchesOfStep(
  { objective, batchSize, accumulationSteps }: StepSettings,
  dropouts: readonly DropoutInput[],
  batches: Batches,
  step: HostBatch,
  index: number,
): Generator<BatchInputs> {
  for (let batch = 0; batch < accumulationSteps; batch++) {
    const own = mapBatch(step, (values) => {
      const length = values.length / accumulationSteps;
      return values.subarray(batch * length, (batch + 1) * length);
    });
    const masks = dropouts.map(({ name, samples, length }, dropout): [string, HostInput] => {
      const place = { step: index, dropout, first: batch * batchSize, count: samples };
      const data = batches.dropoutNumbers(place, new Float32Array(samples * length));
      return [name, { dtype: 'float32', shape: [1, samples, length], data }];
    });
    yield { ...batchInputs(objective, own, [1, batchSize]), ...Object.fromEntries(masks) };
  }
}

function refuseSeveralRanks(compute: Compute, { size }: Communicator): void {
  const where = 'tf' in compute ? "the engine 'tfjs'" : `device '${compute.device}'`;
  if (size === 1 || ('device' in compute && compute.device !== 'webgpu')) return;
  throw new DistributedError(
    `${size} ranks cannot train together on ${where}: use device 'cpu' or 'cuda', or start one process`,
  );
}

function refuseDiverged(report: StepReport, step: number): void {
  const values = Object.entries(report);
  const { loss_scale } = report;
  if (loss_scale === undefined ? values.every(([, value]) => Number.isFinite(value)) : !hasCollapsed(loss_scale))
    return;
  const list = values.map(([name, value]) => `${name} ${value}`).join(', ');
  throw new NonFiniteLossError(`training diverged at step ${step}: ${list}`, step);
}
