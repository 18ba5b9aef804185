import { Worker } from 'node:worker_threads';
import { hostTensor, RuntimeExecutionError, type RuntimeTensor, type TensorMap } from '../runtime/session.ts';

interface Answer {
  readonly id: number;
  readonly outputs?: Readonly<Record<string, PlainTensor>>;
  readonly error?: string;
}
interface PlainTensor {
  readonly type: 'float32' | 'int64';
  readonly dims: readonly number[];
  readonly data: Float32Array | BigInt64Array;
}
interface Pending {
  resolve(outputs: Record<string, RuntimeTensor>): void;
  reject(error: Error): void;
}

/**
 * One ONNX model on one core, in a thread of its own: several of them run at the same time, and the calling thread
 * goes on meanwhile. Feeds and outputs, float32 and int64, are copied between the threads.
 */
export class WorkerSession {
  private readonly worker: Worker;
  private readonly pending = new Map<number, Pending>();
  private nextId = 0;
  private ended: Error | undefined;

  constructor(model: Uint8Array) {
    this.worker = new Worker(new URL('./session-worker.cjs', import.meta.url), {
      workerData: {
        model,
        options: {
          executionProviders: ['cpu'],
          logSeverityLevel: 3,
          intraOpNumThreads: 1,
          extra: { session: { set_denormal_as_zero: '1' } },
        },
      },
      // The worker is plain CommonJS: the loaders of the parent process would only slow its start.
      execArgv: [],
    });
    this.worker.unref();
    this.worker.on('message', (answer: Answer) => this.settle(answer));
    this.worker.on('error', (error) => this.fail(error));
    this.worker.on('exit', (code) => this.fail(new Error(`it exited with code ${code}`)));
  }

  /** @throws {RuntimeExecutionError} when the model cannot be loaded or run, or the thread has ended. */
  async run(feeds: TensorMap): Promise<Record<string, RuntimeTensor>> {
    if (this.ended) throw failure(this.ended.message);
    const id = this.nextId++;
    const plain = Object.entries(feeds).map(([name, { type, dims, data }]) => [name, { type, dims, data }]);
    const answer = new Promise<Record<string, RuntimeTensor>>((resolve, reject) => {
      this.pending.set(id, { resolve, reject });
    });
    // While a run is under way the thread keeps the process alive, as any other work would.
    this.worker.ref();
    this.worker.postMessage({ id, feeds: Object.fromEntries(plain) });
    return answer;
  }

  async release(): Promise<void> {
    await this.worker.terminate();
  }

  private settle({ id, outputs, error }: Answer): void {
    const pending = this.pending.get(id);
    this.pending.delete(id);
    if (this.pending.size === 0) this.worker.unref();
    if (!outputs) {
      pending?.reject(failure(error ?? 'no reason was given'));
      return;
    }
    const tensors = Object.entries(outputs).map(
      ([name, { type, dims, data }]) => [name, hostTensor(type, dims, data)] as const,
    );
    pending?.resolve(Object.fromEntries(tensors));
  }

  private fail(error: Error): void {
    this.ended ??= error;
    for (const { reject } of this.pending.values()) reject(failure(error.message));
    this.pending.clear();
  }
}

function failure(reason: string): RuntimeExecutionError {
  return new RuntimeExecutionError(`onnxruntime failed in a worker thread: ${reason}`);
}
