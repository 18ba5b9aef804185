import { Worker } from 'node:worker_threads';
import { errorText } from '../errors.ts';
import { packageScript } from '../files/package-files.ts';
import { Channel } from '../threads/channel.ts';
import { hostTensor, RuntimeExecutionError, type RuntimeTensor, type TensorMap } from './session.ts';

interface PlainTensor {
  readonly type: 'float32' | 'int64';
  readonly dims: readonly number[];
  readonly data: Float32Array | BigInt64Array;
}
type PlainTensors = Readonly<Record<string, PlainTensor>>;

/**
 * One ONNX model on one core, in a thread of its own: several of them run at the same time, and the calling thread
 * goes on meanwhile. Feeds and outputs, float32 and int64, are copied between the threads.
 */
export class WorkerSession {
  private readonly channel: Channel<PlainTensors, PlainTensors>;

  constructor(model: Uint8Array) {
    const worker = new Worker(packageScript('runtime/session-worker.cjs'), {
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
    const ended = new Promise((resolve) => worker.once('exit', resolve));
    // Where a thread is terminated inside onnxruntime, its binding ends the process ('Napi::Error').
    this.channel = Channel.toThread(worker, () => {
      worker.ref();
      worker.postMessage('end');
      return ended;
    });
  }

  /** @throws {RuntimeExecutionError} when the model cannot be loaded or run, or the thread has ended. */
  async run(feeds: TensorMap): Promise<Record<string, RuntimeTensor>> {
    const plain = Object.entries(feeds).map(([name, { type, dims, data }]) => [name, { type, dims, data }]);
    const outputs = await this.channel.call(Object.fromEntries(plain)).catch((cause: unknown) => {
      throw new RuntimeExecutionError(`onnxruntime failed in a worker thread: ${errorText(cause)}`, { cause });
    });
    const tensors = Object.entries(outputs).map(
      ([name, { type, dims, data }]) => [name, hostTensor(type, dims, data)] as const,
    );
    return Object.fromEntries(tensors);
  }

  async release(): Promise<void> {
    await this.channel.release();
  }
}
