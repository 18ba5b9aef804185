import { DeviceError } from '../../errors.ts';
import type { AdamSettings, UpdateScalars } from '../../graph/optimizer.ts';
import { HOST_KERNELS } from './host-kernels-binary.ts';

/** The vectors beside parameters, moments and gradient. */
export interface StateKinds {
  /** Whether an average of the parameters is kept. */
  readonly ema: boolean;
  /** Whether gradients of several batches are added up. */
  readonly sum: boolean;
}

/** The exports of host-kernels.wat; addresses and ends in bytes. */
interface Kernels {
  add(sum: number, gradient: number, end: number): void;
  squaredNorm(vector: number, end: number): number;
  update(
    parameters: number,
    firstMoment: number,
    secondMoment: number,
    average: number,
    gradient: number,
    end: number,
    ...scalars: number[]
  ): void;
}

const PAGE_BYTES = 2 ** 16;
/** Vectors begin at cache lines. */
const ALIGNMENT_BYTES = 64;
/** One page less than 32-bit addresses reach: the end of the last vector needs an address too. */
const MAX_MEMORY_BYTES = 2 ** 32 - PAGE_BYTES;

let module: WebAssembly.Module | undefined;

/**
 * Parameters with their moments, average and gradients in one memory of WebAssembly. Its kernels change them in place, and
 * onnxruntime reads and writes them without copies. (onnxruntime takes no shared memory, and a second thread would not be
 * faster: the update waits for the memory. Measurements are in docs/performance.md.)
 */
export class ParameterMemory {
  readonly parameters: Float32Array;
  /** As in `AdamState`. */
  readonly first_moment: Float32Array;
  readonly second_moment: Float32Array;
  readonly ema: Float32Array | undefined;
  /** Of one batch. */
  readonly gradient: Float32Array;
  private readonly sum: Float32Array | undefined;
  private readonly kernels: Kernels;
  private readonly paddedBytes: number;

  /** The most parameters that one memory holds. */
  static maxLength(kinds: StateKinds): number {
    return Math.floor(MAX_MEMORY_BYTES / vectorCount(kinds) / ALIGNMENT_BYTES) * (ALIGNMENT_BYTES / 4);
  }

  /**
   * Vectors of zeros.
   *
   * @throws {DeviceError} when there is not enough memory.
   */
  constructor(length: number, kinds: StateKinds) {
    this.paddedBytes = Math.ceil((length * 4) / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
    const memory = allocate(this.paddedBytes * vectorCount(kinds));
    let count = 0;
    const vector = () => new Float32Array(memory.buffer, this.paddedBytes * count++, length);
    this.parameters = vector();
    this.first_moment = vector();
    this.second_moment = vector();
    this.gradient = vector();
    this.ema = kinds.ema ? vector() : undefined;
    this.sum = kinds.sum ? vector() : undefined;
    module ??= new WebAssembly.Module(Uint8Array.from(atob(HOST_KERNELS), (byte) => byte.charCodeAt(0)));
    this.kernels = new WebAssembly.Instance(module, { host: { memory } }).exports as unknown as Kernels;
  }

  /** Adds the batch's gradient to the sum of the step, which the `first` batch begins. */
  addGradient(first: boolean): void {
    const { gradient, sum } = this;
    if (!sum) return;
    if (first) sum.set(gradient);
    else this.kernels.add(sum.byteOffset, gradient.byteOffset, this.end(gradient));
  }

  /** The sum of the squares of the step's gradient, summed in float64. */
  squaredNorm(): number {
    const gradient = this.sum ?? this.gradient;
    return this.kernels.squaredNorm(gradient.byteOffset, this.end(gradient));
  }

  /** `adamStep` and `emaStep` of src/graph/optimizer.ts, in place and in float32. */
  update({ beta1, beta2 }: AdamSettings, scalars: UpdateScalars): void {
    const { parameters, first_moment, second_moment, ema } = this;
    const gradient = this.sum ?? this.gradient;
    this.kernels.update(
      parameters.byteOffset,
      first_moment.byteOffset,
      second_moment.byteOffset,
      (ema ?? parameters).byteOffset,
      gradient.byteOffset,
      this.end(gradient),
      scalars.gradientScale,
      beta1,
      beta2,
      scalars.stepSize,
      scalars.epsilon,
      1 - scalars.decayFactor,
      scalars.emaRate,
    );
  }

  private end(vector: Float32Array): number {
    return vector.byteOffset + this.paddedBytes;
  }
}

function vectorCount({ ema, sum }: StateKinds): number {
  return 4 + Number(ema) + Number(sum);
}

function allocate(bytes: number): WebAssembly.Memory {
  const pages = Math.ceil(bytes / PAGE_BYTES);
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages });
  } catch (cause) {
    throw new DeviceError(
      `there is no room for ${Math.ceil(bytes / 2 ** 20)} MiB of parameters, moments and gradients: free memory. Where the address space is limited (ulimit -v), start node with --disable-wasm-trap-handler: it then reserves only what it uses`,
      { cause },
    );
  }
}
