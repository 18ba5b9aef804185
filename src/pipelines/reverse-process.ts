import { GraphError, InvalidArgumentError, OnnxFormatError } from '../errors.ts';
import { readOnnx } from '../graph/onnx/read.ts';
import { type Dim, elementCount } from '../graph/types.ts';
import { onnxSource } from '../models/onnx-file.ts';
import { type SampleSeed, SampleStreams } from '../random/sample-streams.ts';
import type { ConcreteDevice } from '../runtime/device.ts';
import type { Scheduler } from '../schedulers/index.ts';
import { DenoisingLoop } from './fused/denoising-loop.ts';
import { ModelSession } from './model-session.ts';

/**
 * Called after a step with its index from 0, its timestep and the sample [batch_size, ...] in model units; may return
 * another sample of the same size to go on with.
 */
export type StepCallback = (
  step: number,
  timestep: number,
  state: { sample: Float32Array },
) => StepCallbackResult | Promise<StepCallbackResult>;
// biome-ignore lint/suspicious/noConfusingVoidType: a callback may return nothing, or a new sample
export type StepCallbackResult = { sample?: Float32Array } | undefined | void;

export interface ReverseProcessOptions {
  readonly scheduler: Scheduler;
  readonly num_inference_steps: number;
  readonly batchSize: number;
  readonly seed: SampleSeed;
  /** Index of the first sample: a part of a larger batch; default 0. */
  readonly firstSample?: number | undefined;
  /** In place of the model's own prediction, e.g. with guidance; makes sampling run step by step. */
  readonly predict?: ((sample: Float32Array, timestep: number) => Promise<Float32Array>) | undefined;
  readonly eta?: number | undefined;
  readonly callback?: StepCallback | undefined;
  readonly onProgress?: ((fraction: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** `loop`: chunks of steps in one graph; `stepwise`: one model run a step. Default: the faster possible one. */
  readonly path?: 'loop' | 'stepwise' | undefined;
}

/**
 * From noise to samples. Two paths give the same numbers: step by step, with the scheduler in JavaScript; and many
 * steps inside one ONNX Loop, on the cpu, where every step is a fixed combination (`StepCoefficients`).
 */
export class ReverseProcess {
  private constructor(
    readonly model: ModelSession,
    private readonly denoisingLoop: DenoisingLoop | undefined,
  ) {}

  /**
   * @param onnxFile path of `unet/model.onnx`.
   * @throws {OnnxFormatError} when the file is missing, malformed or no diffusion model of this sample shape.
   */
  static async load(
    onnxFile: string,
    config: Readonly<Record<string, unknown>>,
    sampleShape: readonly number[],
    device: ConcreteDevice,
  ): Promise<ReverseProcess> {
    return ReverseProcess.fromOnnx(await onnxSource(onnxFile), config, sampleShape, device);
  }

  /** `load` for a model that is in memory, or by its path where it keeps weights in files beside it. */
  static async fromOnnx(
    onnx: Uint8Array | string,
    config: Readonly<Record<string, unknown>>,
    sampleShape: readonly number[],
    device: ConcreteDevice,
  ): Promise<ReverseProcess> {
    const model = await ModelSession.create(onnx, config, sampleShape, device);
    // A step of a model of images is long: the Loop would gain nothing and hold the weights once more.
    const loops = device === 'cpu' && sampleShape.length === 1 && typeof onnx !== 'string';
    return new ReverseProcess(model, loops ? loopOf(onnx, sampleShape) : undefined);
  }

  /**
   * The samples, row-major [batchSize, ...sampleShape], in model units.
   *
   * @throws {InvalidArgumentError} when an option is out of range, or the loop is asked for and not possible.
   * @throws `signal.reason` when the signal aborts.
   */
  async run(options: ReverseProcessOptions): Promise<Float32Array> {
    options.signal?.throwIfAborted();
    // A copy, because runs at the same time may differ in their numbers of steps.
    const scheduler = options.scheduler.clone();
    scheduler.setTimesteps(options.num_inference_steps);
    const coefficients = scheduler.timesteps.map((timestep) =>
      scheduler.stepCoefficients(timestep, { eta: options.eta }),
    );
    const fixedSteps = coefficients.filter((step) => step !== null);
    const stepwise = options.callback || options.predict;
    const loop = stepwise || fixedSteps.length < coefficients.length ? undefined : this.denoisingLoop;
    if (options.path === 'loop' && !loop)
      throw new InvalidArgumentError(
        "path 'loop' needs the cpu, a model that can be copied into a Loop, fixed steps (no thresholding or learned variance) and no callback",
      );
    const samples =
      loop && options.path !== 'stepwise'
        ? await loop.run({
            timesteps: scheduler.timesteps,
            coefficients: fixedSteps,
            needsNoise: scheduler.timesteps.map((timestep) => scheduler.needsNoise(timestep, options.eta)),
            batchSize: options.batchSize,
            seed: options.seed,
            firstSample: options.firstSample ?? 0,
            beforeChunk: (fraction) => {
              options.onProgress?.(fraction);
              options.signal?.throwIfAborted();
            },
          })
        : await this.runStepwise(scheduler, options);
    options.onProgress?.(1);
    return samples;
  }

  async release(): Promise<void> {
    await this.denoisingLoop?.release();
    await this.model.release();
  }

  private async runStepwise(
    scheduler: Scheduler,
    { batchSize, seed, firstSample, eta, callback, onProgress, signal, predict }: ReverseProcessOptions,
  ): Promise<Float32Array> {
    const streams = new SampleStreams(seed, batchSize, elementCount(this.model.sampleShape), firstSample);
    const noise = new Float32Array(batchSize * streams.valuesPerSample);
    const sample_shape = [batchSize, ...this.model.sampleShape];
    let sample: Float32Array = streams.fillNormal(new Float32Array(noise.length));
    if (scheduler.init_noise_sigma !== 1) sample = sample.map((x) => x * scheduler.init_noise_sigma);
    for (const [step, timestep] of scheduler.timesteps.entries()) {
      signal?.throwIfAborted();
      onProgress?.(step / scheduler.timesteps.length);
      const predicted = await (predict ?? ((x, t) => this.model.predict(x, t)))(
        scheduler.scaleModelInput(sample, timestep),
        timestep,
      );
      const output = scheduler.learnsVariance ? predicted : meanPart(predicted, sample.length, batchSize);
      if (scheduler.needsNoise(timestep, eta)) streams.fillNormal(noise);
      sample = scheduler.step(output, timestep, sample, { noise, sample_shape, eta }).prev_sample;
      const replaced = await callback?.(step, timestep, { sample });
      if (replaced?.sample) sample = checkedReplacement(replaced.sample, sample.length);
    }
    return sample;
  }
}

/** A scheduler with a fixed variance has no use for the second half of the channels, a model's learned variance. */
function meanPart(output: Float32Array, sampleLength: number, batchSize: number): Float32Array {
  if (output.length !== 2 * sampleLength) return output;
  const size = sampleLength / batchSize;
  const mean = new Float32Array(sampleLength);
  for (let i = 0; i < batchSize; i++) mean.set(output.subarray(2 * i * size, (2 * i + 1) * size), i * size);
  return mean;
}

function checkedReplacement(sample: unknown, length: number): Float32Array {
  if (sample instanceof Float32Array && sample.length === length) return sample;
  throw new InvalidArgumentError(
    `callback_on_step_end returned a sample that is no Float32Array of ${length} values, as the one it was given`,
  );
}

/** The loop runs all samples through a step at once: one timestep for the batch. */
function oneTimestep(name: string, declared: readonly Dim[]): readonly Dim[] {
  return name === 'timestep' ? declared.map(() => 1) : declared;
}

/** Undefined where the model holds what this package does not read or cannot put into a Loop. */
function loopOf(onnx: Uint8Array, sampleShape: readonly number[]): DenoisingLoop | undefined {
  try {
    return new DenoisingLoop(readOnnx(onnx, { inputShapes: oneTimestep }), sampleShape, 'cpu');
  } catch (error) {
    if (error instanceof GraphError || error instanceof OnnxFormatError) return undefined;
    throw error;
  }
}
