import { DeviceError } from '../../errors.ts';
import type { MomentKind, OptimizerSettings, UpdateScalars } from '../../graph/optimizer.ts';
import { HOST_KERNELS } from './host-kernels-binary.ts';

/** The vectors beside parameters and gradient. */
export interface StateKinds {
  /** Those of the optimizer. */
  readonly moments: readonly MomentKind[];
  /** Whether an average of the parameters is kept. */
  readonly ema: boolean;
  /** Batches of a step whose gradients are added up here. */
  readonly batches: number;
}

/** The exports of host-kernels.wat; addresses and ends in bytes. */
interface Kernels {
  add(sum: number, gradient: number, end: number): void;
  squaredNorm(vector: number, end: number): number;
  adam(
    parameters: number,
    firstMoment: number,
    secondMoment: number,
    average: number,
    gradient: number,
    end: number,
    ...scalars: number[]
  ): void;
  sgd: OneMomentKernel;
  lion: OneMomentKernel;
}
type OneMomentKernel = (
  parameters: number,
  moment: number,
  average: number,
  gradient: number,
  end: number,
  ...scalars: number[]
) => void;

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
  /** Of the optimizer, as `optimizerStep` has them. */
  readonly first_moment: Float32Array | undefined;
  readonly second_moment: Float32Array | undefined;
  readonly ema: Float32Array | undefined;
  /** Of one batch. */
  readonly gradient: Float32Array;
  /** Of all batches of the step, once the last was added. */
  total: Float32Array;
  private readonly sums: readonly Float32Array[];
  /** Sums of 2^k batches each, the longest first: those of the bits of the number of batches so far. */
  private pending: Float32Array[] = [];
  private free: Float32Array[] = [];
  private readonly batches: number;
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
    const moment = (kind: MomentKind) => (kinds.moments.includes(kind) ? vector() : undefined);
    this.first_moment = moment('first_moment');
    this.second_moment = moment('second_moment');
    this.gradient = vector();
    this.ema = kinds.ema ? vector() : undefined;
    this.sums = Array.from({ length: sumCount(kinds) }, vector);
    this.batches = kinds.batches;
    this.total = this.gradient;
    module ??= new WebAssembly.Module(Uint8Array.from(atob(HOST_KERNELS), (byte) => byte.charCodeAt(0)));
    this.kernels = new WebAssembly.Instance(module, { host: { memory } }).exports as unknown as Kernels;
  }

  /**
   * Adds the gradient of a batch to the others of the step, which batch 0 begins. Neighbours are added, then neighbouring
   * sums, in the order of `addTree`: processes that share the batches of a step add to the same bits.
   */
  addGradient(batch: number): void {
    const { gradient, batches } = this;
    if (batches === 1) return;
    if (batch === 0) {
      this.pending = [];
      this.free = [...this.sums];
    }
    this.total = gradient;
    const isLast = batch === batches - 1;
    for (let bits = batch; bits % 2 === 1 || (isLast && bits > 0); bits >>= 1) if (bits % 2 === 1) this.addToPending();
    if (isLast) return;
    if (this.total === gradient) {
      this.total = this.free.pop() ?? gradient;
      this.total.set(gradient);
    }
    this.pending.push(this.total);
  }

  private addToPending(): void {
    const earlier = this.pending.pop();
    if (!earlier) return;
    this.kernels.add(earlier.byteOffset, this.total.byteOffset, this.end(this.total));
    if (this.total !== this.gradient) this.free.push(this.total);
    this.total = earlier;
  }

  /** The sum of the squares of the step's gradient, summed in float64. */
  squaredNorm(): number {
    return this.kernels.squaredNorm(this.total.byteOffset, this.end(this.total));
  }

  /** `optimizerStep` and `emaStep` of src/graph/optimizer.ts, in place and in float32. */
  update(settings: OptimizerSettings, scalars: UpdateScalars): void {
    const { parameters, first_moment, second_moment, ema, total, kernels } = this;
    const { gradientScale, stepSize, epsilon, decayFactor, emaRate } = scalars;
    const at = (vector: Float32Array = parameters) => vector.byteOffset;
    const decay = 1 - decayFactor;
    switch (settings.name) {
      case 'adam': {
        const { beta1, beta2 } = settings;
        const vectors = [at(), at(first_moment), at(second_moment), at(ema), at(total), this.end(total)] as const;
        kernels.adam(...vectors, gradientScale, beta1, beta2, stepSize, epsilon, decay, emaRate);
        return;
      }
      case 'sgd': {
        const { momentum, nesterov, weight_decay } = settings;
        const shares = nesterov ? [1, momentum] : [0, 1];
        const vectors = [at(), at(first_moment), at(ema), at(total), this.end(total)] as const;
        kernels.sgd(...vectors, gradientScale, momentum, weight_decay, ...shares, stepSize, emaRate);
        return;
      }
      case 'lion': {
        const { beta1, beta2 } = settings;
        const vectors = [at(), at(first_moment), at(ema), at(total), this.end(total)] as const;
        kernels.lion(...vectors, gradientScale, beta1, 1 - beta1, beta2, 1 - beta2, stepSize, decay, emaRate);
      }
    }
  }

  private end(vector: Float32Array): number {
    return vector.byteOffset + this.paddedBytes;
  }
}

/** How many vectors there are, each as long as the parameters. */
export function vectorCount(kinds: StateKinds): number {
  return 2 + kinds.moments.length + Number(kinds.ema) + sumCount(kinds);
}

/** The most sums that are pending at a time. */
function sumCount({ batches }: StateKinds): number {
  return Math.floor(Math.log2(batches));
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
