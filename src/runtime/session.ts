import * as ort from '#ort';
import { afterRun, localData, localTensors, nativeBytes, nativeOrt, nativeTensors } from '#runtime/binding';
import { nodesOnCpu } from '#runtime/placement';
import {
  DeviceError,
  DisposedError,
  errorText,
  IsoDiffusionError,
  OnnxFormatError,
  RuntimeExecutionError,
} from '../errors.ts';
import { withHiddenReshapes } from '../graph/onnx/hidden-shapes.ts';
import type { DType, TensorData } from '../graph/types.ts';
import { threadLimit } from '../threads/threads.ts';
import { type ConcreteDevice, executionProvider, isCuda } from './device.ts';
import { refuseMiscomputedConvolutions } from './ort/webgpu-convolutions.ts';

/** A tensor a session takes or gives: on the host, or on the GPU where the session was told to leave it there. */
export type RuntimeTensor = ort.Tensor;
export type TensorMap = Readonly<Record<string, RuntimeTensor>>;

/** Wraps host data, row-major, as a tensor without copying. */
export function hostTensor(dtype: DType, shape: readonly number[], data: TensorData): RuntimeTensor {
  return new ort.Tensor(dtype, localData(data), shape);
}

/** The data of a float32 tensor on the host. @throws {RuntimeExecutionError} when it is something else. */
export function float32Data(tensor: RuntimeTensor | undefined, name: string): Float32Array {
  if (tensor?.location === 'cpu' && tensor.data instanceof Float32Array) return tensor.data;
  throw new RuntimeExecutionError(
    `output '${name}' should be a float32 tensor on the host, but is ${tensor ? `${tensor.type} on ${tensor.location}` : 'missing'}`,
  );
}

export interface SessionOptions {
  /** Outputs to leave on the device, to be fed straight back; only webgpu can. */
  readonly deviceOutputs?: readonly string[] | undefined;
  /**
   * Whether onnxruntime lays memory out ahead from the second run on, in one block beside what it has. Default: not on
   * cuda, where that doubles the memory of a training step and saves no time.
   */
  readonly plansMemory?: boolean | undefined;
  /**
   * Whether a node that the device cannot run is an error; else it runs on the cpu. What onnxruntime leaves to the cpu on
   * purpose on cuda is no error: nodes that compute with shapes. Default: on a GPU, unless `allowFallback` allowed it.
   */
  readonly forbidFallback?: boolean | undefined;
  /** The folder of the files in which tensors of the model lie, where the model comes as bytes. Default: none do. */
  readonly weightsFolder?: string | undefined;
  /** The most threads of one op on the cpu; default: those that `limitThreads` allows, else one a physical core. */
  readonly maxThreads?: number | undefined;
  /** Whether the model has graphs within nodes, such as the body of a Loop, where onnxruntime itself forbids nothing. */
  readonly hasBodies?: boolean | undefined;
  /**
   * Whether shapes are hidden here (see `withHiddenReshapes`), without which half of the time to load a small model is spent
   * on comparing them. Default: those of a model of up to 16 MiB on the cpu, without graphs within nodes.
   */
  readonly hidesShapes?: boolean | undefined;
}

/** In bytes. To load a larger model is mostly to read its weights. */
const MAX_HIDDEN = 2 ** 24;

/**
 * Optimizers of onnxruntime that harm on cuda: the first makes one Split of the Slices that cut the parameters, whose table
 * of 8 bytes a parameter is built on the host and uploaded at every step; the second puts uneven pads back into a Conv.
 */
const CUDA_HARMFUL = 'GatherSliceToSplitFusion;Pad_Fusion';

let fallbackAllowed = false;

/** Whether nodes that a GPU cannot run may run on the cpu, for sessions from now on; at first not. */
export function allowFallback(allowed: boolean): void {
  fallbackAllowed = allowed;
}

/** One ONNX model, loaded on one device. */
export class Session {
  private released: Promise<void> | undefined;

  private constructor(
    private readonly session: ort.InferenceSession,
    readonly device: ConcreteDevice,
  ) {}

  /**
   * @throws {OnnxFormatError} when onnxruntime refuses the model.
   * @throws {DeviceError} when the device cannot run it, would compute it wrongly, or would leave nodes to the cpu.
   */
  static async create(
    model: Uint8Array | string,
    device: ConcreteDevice,
    options: SessionOptions = {},
  ): Promise<Session> {
    const { hidesShapes = device === 'cpu' && !options.hasBodies } = options;
    const isSmall = typeof model !== 'string' && model.length <= MAX_HIDDEN;
    const loaded = hidesShapes && isSmall ? withHiddenReshapes(model) : model;
    // Else onnxruntime's default: one a physical core.
    const threads = Math.min(threadLimit() ?? Number.POSITIVE_INFINITY, options.maxThreads ?? Number.POSITIVE_INFINITY);
    const forbidFallback = device !== 'cpu' && (options.forbidFallback ?? !fallbackAllowed);
    const settings: ort.InferenceSession.SessionOptions = {
      executionProviders: [executionProvider(device)],
      // onnxruntime also prints a refusal, after which the nodes may turn out to be harmless.
      logSeverityLevel: forbidFallback ? 4 : 3,
      executionMode: 'sequential',
      enableMemPattern: options.plansMemory ?? !isCuda(device),
      graphOptimizationLevel: 'all',
      ...(Number.isFinite(threads) ? { intraOpNumThreads: threads } : {}),
      extra: {
        ...(isCuda(device) ? { optimization: { disable_specified_optimizers: CUDA_HARMFUL } } : {}),
        session: {
          set_denormal_as_zero: '1',
          ...(forbidFallback ? { disable_cpu_ep_fallback: '1' } : {}),
          ...(options.weightsFolder === undefined
            ? {}
            : { model_external_initializers_file_folder_path: options.weightsFolder }),
        },
      },
    };
    if (device === 'webgpu' && options.deviceOutputs?.length) {
      settings.preferredOutputLocation = Object.fromEntries(options.deviceOutputs.map((name) => [name, 'gpu-buffer']));
    }
    try {
      if (device === 'webgpu') await refuseMiscomputedConvolutions(model);
      // At the same time as the session: both take seconds.
      const inBodies = forbidFallback && options.hasBodies ? nodesOnCpu(model, settings) : undefined;
      const session = await createNative(loaded, settings);
      const { misplaced = [] } = (await inBodies) ?? {};
      if (misplaced.length === 0) return new Session(session, device);
      await session.release();
      throw fallbackError(device, misplaced);
    } catch (cause) {
      if (cause instanceof IsoDiffusionError) throw cause;
      if (forbidFallback && errorText(cause).includes('fallback to CPU EP has been explicitly disabled')) {
        const { misplaced, onPurpose } = await nodesOnCpu(model, settings);
        if (misplaced.length === 0 && onPurpose.length > 0)
          return Session.create(model, device, { ...options, forbidFallback: false });
        throw fallbackError(device, misplaced);
      }
      if (device !== 'cpu')
        throw new DeviceError(`the model cannot run on '${device}': ${errorText(cause)}`, { cause });
      throw new OnnxFormatError(`onnxruntime cannot load the model: ${errorText(cause)}`, { cause });
    }
  }

  get inputNames(): readonly string[] {
    return this.session.inputNames;
  }

  /** Element type and declared shape of an input; undefined where there is none of that name. */
  inputType(name: string): { readonly dtype: string; readonly shape: readonly (number | string)[] } | undefined {
    const metadata = this.session.inputMetadata.find((input) => input.name === name);
    return metadata?.isTensor ? { dtype: metadata.type, shape: metadata.shape } : undefined;
  }

  /** Those of the feeds that the model takes: an input that nothing uses is not among those of a session. */
  used(feeds: TensorMap): Record<string, RuntimeTensor> {
    const names = new Set(this.session.inputNames);
    return Object.fromEntries(Object.entries(feeds).filter(([name]) => names.has(name)));
  }

  get outputNames(): readonly string[] {
    return this.session.outputNames;
  }

  /**
   * Runs the model. With `fetches`, results go into those preallocated host tensors, which must not be among the feeds;
   * null lets onnxruntime allocate.
   *
   * @throws {DisposedError} when the session was released, perhaps while it ran.
   * @throws {RuntimeExecutionError} when onnxruntime fails, with its message.
   */
  async run(feeds: TensorMap, fetches?: Readonly<Record<string, RuntimeTensor | null>>): Promise<TensorMap> {
    this.checkUsable();
    try {
      const outputs = await (fetches ? this.session.run(feeds, nativeTensors(fetches)) : this.session.run(feeds));
      await afterRun();
      return localTensors(outputs);
    } catch (cause) {
      this.checkUsable();
      throw new RuntimeExecutionError(`onnxruntime failed on '${this.device}': ${errorText(cause)}`, { cause });
    }
  }

  /** @throws {DisposedError} after `release`. */
  checkUsable(): void {
    if (this.released)
      throw new DisposedError('the model was disposed of, and cannot be used after dispose(): load it again');
  }

  /** Frees the model. A second call does nothing. */
  release(): Promise<void> {
    this.released ??= this.session.release();
    return this.released;
  }
}

function createNative(
  model: Uint8Array | string,
  settings: ort.InferenceSession.SessionOptions,
): Promise<ort.InferenceSession> {
  const { InferenceSession } = nativeOrt();
  return typeof model === 'string'
    ? InferenceSession.create(model, settings)
    : InferenceSession.create(nativeBytes(model), settings);
}

/** The most nodes that an error lists. */
const MOST_LISTED = 5;

function fallbackError(device: ConcreteDevice, nodes: readonly string[]): DeviceError {
  const others = nodes.length > MOST_LISTED ? ` and ${nodes.length - MOST_LISTED} others` : '';
  const list = nodes.length === 0 ? 'nodes' : `${nodes.slice(0, MOST_LISTED).join(', ')}${others}`;
  return new DeviceError(
    `'${device}' cannot run all of the model: ${list} would run on the cpu, with copies from and to the GPU at every call. Change the model, use device 'cpu', or allow it with configureRuntime({ cpu_fallback: true }) (--cpu-fallback true)`,
  );
}
