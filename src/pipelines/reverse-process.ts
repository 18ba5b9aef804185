import { GraphError, InvalidArgumentError, OnnxFormatError } from '../errors.ts';
import { readOnnx } from '../graph/onnx/read.ts';
import { elementCount } from '../graph/tensor-type.ts';
import { withRegularFile } from '../hub/regular-file.ts';
import { type SampleSeed, SampleStreams } from '../random/sample-streams.ts';
import type { ConcreteDevice } from '../runtime/device.ts';
import type { DiffusionScheduler } from '../schedulers/index.ts';
import { DenoisingLoop } from './denoising-loop.ts';
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
  readonly scheduler: DiffusionScheduler;
  readonly num_inference_steps: number;
  readonly batchSize: number;
  readonly seed: SampleSeed;
  readonly eta?: number;
  readonly callback?: StepCallback;
  readonly onProgress?: (fraction: number) => void;
  readonly signal?: AbortSignal;
  /** `loop`: chunks of steps in one graph; `stepwise`: one model run a step. Default: the faster possible one. */
  readonly path?: 'loop' | 'stepwise';
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
    const fail = (message: string, options?: ErrorOptions) => new OnnxFormatError(message, options);
    const onnx = await withRegularFile(onnxFile, fail, (file) => file.read(0, file.size));
    const model = await ModelSession.create(onnx, config, sampleShape, device);
    return new ReverseProcess(model, device === 'cpu' ? loopOf(onnx, sampleShape) : undefined);
  }

  /** The samples, row-major [batchSize, ...sampleShape], in model units. */
  async run(options: ReverseProcessOptions): Promise<Float32Array> {
    const { eta, signal, onProgress } = options;
    // A copy: runs at the same time may have different numbers of steps.
    const scheduler = shallowCopy(options.scheduler);
    scheduler.setTimesteps(options.num_inference_steps);
    signal?.throwIfAborted();
    const result = (await this.runLoop(scheduler, options)) ?? (await this.runStepwise(scheduler, options));
    onProgress?.(1);
    return result;

    // (eta is checked by the scheduler.)
  }

  async release(): Promise<void> {
    await this.denoisingLoop?.release();
    await this.model.release();
  }
}

/** Undefined where the model holds what this package does not read or cannot put into a Loop. */
function loopOf(onnx: Uint8Array, sampleShape: readonly number[]): DenoisingLoop | undefined {
  try {
    return new DenoisingLoop(readOnnx(onnx), sampleShape, 'cpu');
  } catch (error) {
    if (error instanceof GraphError || error instanceof OnnxFormatError) return undefined;
    throw error;
  }
}
