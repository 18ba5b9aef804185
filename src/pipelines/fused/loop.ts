// Many steps of the reverse process inside one ONNX graph. The numbers are those of `sample`: of points on the cpu bit for
// bit, of images on cuda up to the order of sums in convolutions.
import { startSession } from '#runtime/worker';
import { GraphError, OnnxFormatError } from '../../errors.ts';
import { Graph } from '../../graph/graph.ts';
import { writeOnnx } from '../../graph/onnx/write.ts';
import { type Dim, elementCount, type TensorType } from '../../graph/types.ts';
import type { OnnxDtype } from '../../hub/hub-options.ts';
import { type ConcreteDevice, isCuda } from '../../runtime/device.ts';
import { float32Data, hostTensor, type RuntimeTensor, Session, type TensorMap } from '../../runtime/session.ts';
import type { WorkerSession } from '../../runtime/worker-session.ts';
import type { Scheduler } from '../../schedulers/scheduler.ts';
import { parallelSessions } from '../../threads/threads.ts';
import { noiseOf, noiseStreams } from '../editing/latents.ts';
import { allFinite } from '../finite-checks.ts';
import type { Guidance } from '../guidance.ts';
import type { ModelSession } from '../model-session.ts';
import { initialNoise, type SamplingRun } from '../sample.ts';
import { startedScheduler } from '../sampling-options.ts';
import { type StepNoise, stepNoise } from '../step-noise.ts';
import { chunkFeeds, classFeeds, type FusedStep, fixedCoefficients, formOf, int64Scalar } from './feeds.ts';
import { denoisingGraph, type StepForm, timeGraph, timeValueName } from './graphs.ts';
import { splitByTime, type TimeSplit } from './time-split.ts';

/**
 * Large batches go through the steps in blocks, each on one core, so that a block's activations stay in its cache and
 * no core waits for another between layers. 10,000 points of the paper's network on 2 cores took 3.6 ms a step with
 * both cores on every layer, 2.3 ms with a core for each block. Results do not depend on it.
 */
const BLOCK_SAMPLES = 1250;
/** A larger model does not fit the caches anyway, and every worker would hold it once more. */
const MAX_WORKER_MODEL_BYTES = 2 ** 23;
/** Steps a run. More gain nothing, and a run cannot be interrupted. */
const CHUNK_STEPS = 50;
/** The noise of a run is held at once: this many values, 16 MiB, bound it where samples are large. */
const MAX_NOISE_VALUES = 2 ** 22;

/** The reverse process inside ONNX graphs: no call per step, and the time embedding once for all samples. */
export class DenoisingLoop {
  private readonly split: TimeSplit;
  private readonly timeModel: Uint8Array;
  private readonly timeTypes: readonly TensorType[];
  private readonly modelBytes: number;
  private readonly sampleShape: readonly number[];
  private readonly sessions = new Map<string, Promise<Session>>();
  private readonly workers = new Map<string, WorkerSession[]>();

  private constructor(
    graphOfModel: Graph,
    private readonly model: ModelSession,
  ) {
    this.sampleShape = model.sampleShape;
    this.split = splitByTime(graphOfModel);
    this.modelBytes = graphOfModel.constants.reduce((sum, { data }) => sum + (data?.byteLength ?? 0), 0);
    const { graph, types } = timeGraph(this.split);
    this.timeModel = writeOnnx(graph);
    this.timeTypes = types;
  }

  /**
   * Undefined where it gains nothing, or is not possible: for images on the cpu, of which a step is long; on webgpu, whose
   * Loop copies what it carries to the host; for a file in float16, which is read as float32; and for a model that this
   * package cannot read or put into a Loop, or that takes more than a numbered class beside the sample.
   *
   * @param source the model as it was built, or its ONNX file.
   */
  static async of(
    source: Uint8Array | string | Graph,
    model: ModelSession,
    dtype: OnnxDtype = 'fp32',
  ): Promise<DenoisingLoop | undefined> {
    const { device, sampleShape } = model;
    const gains = isCuda(device) || (device === 'cpu' && sampleShape.length === 1);
    const isReadable = source instanceof Graph || dtype === 'fp32';
    return gains && isReadable ? DenoisingLoop.read(source, model) : undefined;
  }

  /** Undefined for a model that this package cannot read or put into a Loop. */
  static async read(source: Uint8Array | string | Graph, model: ModelSession): Promise<DenoisingLoop | undefined> {
    if (!model.takesFloat32 || model.labelShape || typeof source === 'string') return undefined;
    try {
      return new DenoisingLoop(source instanceof Graph ? source : await readModel(source), model);
    } catch (error) {
      if (error instanceof GraphError || error instanceof OnnxFormatError) return undefined;
      throw error;
    }
  }

  /**
   * The final samples, row-major [batchSize, ...sampleShape]; undefined where the run has to go step by step: with a
   * callback, a prediction of its own, given samples, or steps that are not fixed combinations at whole timesteps; and where something
   * was not finite, because the steps one by one say in which of them.
   */
  async tryRun(run: SamplingRun): Promise<Float32Array | undefined> {
    if (run.callback || (run.predict && !run.guidance) || run.edit) return undefined;
    const scheduler = startedScheduler(run);
    const coefficients = fixedCoefficients(scheduler, run);
    return coefficients && this.run(run, scheduler, coefficients);
  }

  private async run(
    run: SamplingRun,
    scheduler: Scheduler,
    coefficients: readonly FusedStep[],
  ): Promise<Float32Array | undefined> {
    run.signal?.throwIfAborted();
    const { batchSize, firstSample = 0 } = run;
    const size = elementCount(this.sampleShape);
    const blocks = blocksOf(batchSize, Math.min(BLOCK_SAMPLES, Math.ceil(MAX_NOISE_VALUES / size)));
    const result = new Float32Array(batchSize * size);
    const process: Process = {
      scheduler,
      coefficients,
      guidance: run.guidance,
      needsNoise: scheduler.timesteps.map((timestep) => scheduler.needsNoise(timestep, run.eta)),
      timeValues: await this.timeValues(scheduler.timesteps),
    };
    const runners = await this.runners(formOf(coefficients, run.guidance), blocks.length);
    let done = 0;
    let wasFinite = true;
    const beforeChunk = (sampleSteps: number) => {
      run.onProgress?.(done / (batchSize * coefficients.length));
      run.signal?.throwIfAborted();
      done += sampleSteps;
    };
    const takeBlocks = async (runner: Runner) => {
      for (let block = blocks.shift(); block; block = blocks.shift()) {
        const first = firstSample + block.first;
        const spec = { ...noiseOf(run), count: block.count, size, first };
        const streams = noiseStreams(run, block.count, size, first);
        const noisySteps = process.needsNoise.filter(Boolean).length;
        const noise = stepNoise(spec, streams, { ahead: this.model.device !== 'cpu', noisySteps });
        const samples = await this.runBlock(block, noise, process, runner, beforeChunk).finally(() => noise.close());
        if (samples) result.set(samples, block.first * size);
        else {
          wasFinite = false;
          blocks.length = 0;
        }
      }
    };
    const outcomes = await Promise.allSettled(runners.map(takeBlocks));
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
    if (!wasFinite) return undefined;
    run.onProgress?.(1);
    return result;
  }

  async release(): Promise<void> {
    const sessions = [...this.sessions.values()];
    this.sessions.clear();
    for (const session of sessions) await (await session).release();
    const workers = [...this.workers.values()].flat();
    this.workers.clear();
    await Promise.all(workers.map((worker) => worker.release()));
  }

  /** Undefined where something was not finite. */
  private async runBlock(
    { first, count }: Block,
    noise: StepNoise,
    { scheduler, coefficients, guidance, needsNoise, timeValues }: Process,
    runner: Runner,
    beforeChunk: (sampleSteps: number) => void,
  ): Promise<Float32Array | undefined> {
    const form = formOf(coefficients, guidance);
    const classes = classFeeds(guidance, this.split.classLabels?.dtype ?? 'int64', first, count);
    const shape = [count, ...this.sampleShape];
    const chunk = Math.min(CHUNK_STEPS, Math.max(1, Math.floor(MAX_NOISE_VALUES / elementCount(shape))));
    let sample = initialNoise(await noise.start(), scheduler);
    for (let step = 0; step < coefficients.length; step += chunk) {
      const end = Math.min(step + chunk, coefficients.length);
      beforeChunk((end - step) * count);
      const feeds: Record<string, RuntimeTensor> = {
        sample: hostTensor('float32', shape, sample),
        ...classes,
        ...chunkFeeds(form, coefficients.slice(step, end), timeValues, step),
      };
      if (form.usesNoise) {
        const drawn = await noise.take(needsNoise.slice(step, end), needsNoise.slice(end, end + chunk));
        feeds.noise = hostTensor('float32', [end - step, ...shape], drawn);
      }
      const { previous_sample, finite } = await runner.run(feeds);
      if (!allFinite(float32Data(finite, 'finite'))) return undefined;
      sample = float32Data(previous_sample, 'previous_sample');
    }
    return sample;
  }

  /** Each crossing value for all timesteps, [timesteps, ...]. */
  private async timeValues(timesteps: readonly number[]): Promise<RuntimeTensor[]> {
    if (this.timeTypes.length === 0) return [];
    const session = await this.session('time', () => this.timeModel, this.model.device);
    const outputs = await session.run({
      timesteps: hostTensor('int64', [timesteps.length, 1], BigInt64Array.from(timesteps, BigInt)),
      step_count: int64Scalar(timesteps.length),
    });
    return this.timeTypes.flatMap((_, index) => outputs[timeValueName(index)] ?? []);
  }

  /** What runs the blocks: worker threads, one a core, or where they do not pay a session on all cores. */
  private async runners(form: StepForm, blocks: number): Promise<readonly Runner[]> {
    const key = JSON.stringify(form);
    const build = () => writeOnnx(denoisingGraph(this.split, this.timeTypes, this.sampleShape, form));
    const { device } = this.model;
    const count = device === 'cpu' ? Math.min(blocks, parallelSessions()) : 1;
    this.model.checkUsable();
    if (count === 1 || this.modelBytes > MAX_WORKER_MODEL_BYTES) return [await this.session(key, build, device)];
    const workers = this.workers.get(key) ?? [];
    this.workers.set(key, workers);
    while (workers.length < count) workers.push(startSession(build()));
    return workers.slice(0, count);
  }

  private session(key: string, build: () => Uint8Array, device: ConcreteDevice): Promise<Session> {
    const known = this.sessions.get(key);
    if (known) return known;
    this.model.checkUsable();
    // That its nodes run on the device has been seen when the model was opened.
    const session = Session.create(build(), device);
    this.sessions.set(key, session);
    return session;
  }
}

async function readModel(onnx: Uint8Array): Promise<Graph> {
  const { readOnnx } = await import('../../graph/onnx/read.ts');
  // All samples go through a step at once: one timestep for the batch.
  const inputShapes = (name: string, declared: readonly Dim[]) => {
    if (name === 'timestep') return declared.map(() => 1);
    return name === 'class_labels' ? declared.map(() => 'batch_size') : declared;
  };
  return readOnnx(onnx, { inputShapes });
}

/** What all blocks of a run have in common. */
interface Process {
  readonly scheduler: Scheduler;
  /** The classes of all samples of the run, where the model has any. */
  readonly guidance: Guidance | undefined;
  /** One for each timestep, as is `needsNoise`. */
  readonly coefficients: readonly FusedStep[];
  readonly needsNoise: readonly boolean[];
  /** Each crossing value for all timesteps, [timesteps, ...]. */
  readonly timeValues: readonly RuntimeTensor[];
}

/** A session, or one in a thread of its own. */
interface Runner {
  run(feeds: TensorMap): Promise<TensorMap>;
}

/** Some samples of a run. */
interface Block {
  readonly first: number;
  readonly count: number;
}

/** The samples in blocks of nearly equal size, as a queue. */
function blocksOf(samples: number, largest: number): Block[] {
  const rows = Math.ceil(samples / Math.ceil(samples / largest));
  return Array.from({ length: Math.ceil(samples / rows) }, (_, index) => ({
    first: index * rows,
    count: Math.min(rows, samples - index * rows),
  }));
}
