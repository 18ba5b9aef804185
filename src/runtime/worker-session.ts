import { Worker } from 'node:worker_threads';
import { DisposedError, errorText, OnnxFormatError, RuntimeExecutionError } from '../errors.ts';
import { packageScript } from '../files/package-files.ts';
import { Channel } from '../threads/channel.ts';
import { threadLimit } from '../threads/threads.ts';
import { hostTensor, type RuntimeTensor, type Session, type TensorMap } from './session.ts';

interface PlainTensor {
  readonly type: 'float32' | 'int64';
  readonly dims: readonly number[];
  readonly data: Float32Array | BigInt64Array;
}
type PlainTensors = Readonly<Record<string, PlainTensor>>;

/** What a session tells of its model. */
interface Description {
  readonly inputs: readonly { readonly name: string; readonly type: ReturnType<Session['inputType']> }[];
  readonly outputNames: readonly string[];
}

type Request = 'describe' | { readonly feeds: PlainTensors; readonly fetches?: readonly string[] | undefined };

/** How a run of {@link WorkerSession} differs from one of all outputs with copied feeds. */
interface RunOptions {
  /** The outputs to compute. */
  readonly fetches?: readonly string[] | undefined;
  /** Whether the memory of the feeds goes to the thread, after which they are empty here. */
  readonly transfers?: boolean;
}

/**
 * One ONNX model on the cpu, in a thread of its own: the calling thread goes on while it runs, and several of them run
 * at the same time. Feeds and outputs are float32 and int64.
 */
export class WorkerSession {
  private readonly channel: Channel<Request, PlainTensors | Description>;

  /**
   * @param model its bytes, which are copied, or its path.
   * @param threads of its ops; undefined: onnxruntime's default, one a physical core.
   */
  constructor(model: Uint8Array | string, threads: number | undefined) {
    const worker = new Worker(packageScript('runtime/session-worker.cjs'), {
      workerData: {
        model,
        options: {
          executionProviders: ['cpu'],
          logSeverityLevel: 3,
          graphOptimizationLevel: 'all',
          ...(threads === undefined ? {} : { intraOpNumThreads: threads }),
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

  /** @throws {OnnxFormatError} when onnxruntime refuses the model. */
  async describe(): Promise<Description> {
    try {
      return (await this.channel.call('describe')) as Description;
    } catch (cause) {
      throw new OnnxFormatError(`onnxruntime cannot load the model: ${errorText(cause)}`, { cause });
    }
  }

  /** @throws {RuntimeExecutionError} when the model cannot be loaded or run, or the thread has ended. */
  async run(feeds: TensorMap, { fetches, transfers = false }: RunOptions = {}): Promise<Record<string, RuntimeTensor>> {
    const plain = Object.entries(feeds).map(([name, { type, dims, data }]) => [name, { type, dims, data }] as const);
    const transfer = transfers ? plain.map(([, { data }]) => (data as PlainTensor['data']).buffer as ArrayBuffer) : [];
    const request = { feeds: Object.fromEntries(plain) as PlainTensors, fetches };
    const outputs = await this.channel.call(request, { transfer }).catch((cause: unknown) => {
      throw new RuntimeExecutionError(`onnxruntime failed in a worker thread: ${errorText(cause)}`, { cause });
    });
    const tensors = Object.entries(outputs as PlainTensors).map(
      ([name, { type, dims, data }]) => [name, hostTensor(type, dims, data)] as const,
    );
    return Object.fromEntries(tensors);
  }

  async release(): Promise<void> {
    await this.channel.release();
  }
}

/** The part of `Session` that a model needs whose runs are calls from outside. */
export type OpenSession = Pick<Session, 'inputNames' | 'inputType' | 'outputNames' | 'run' | 'release'>;

/**
 * Loads a model on the cpu as `Session.create` does, in a thread of its own: a run does not block the calling thread. A
 * run takes the memory of its feeds, which are empty afterwards.
 *
 * @throws {OnnxFormatError} when onnxruntime refuses the model.
 */
export async function openInThread(model: Uint8Array | string): Promise<OpenSession> {
  const worker = new WorkerSession(model, threadLimit());
  let released: Promise<void> | undefined;
  const release = () => {
    released ??= worker.release();
    return released;
  };
  const description = await worker.describe().catch(async (error: unknown) => {
    await release();
    throw error;
  });
  const types = new Map(description.inputs.map(({ name, type }) => [name, type]));
  return {
    inputNames: [...types.keys()],
    outputNames: description.outputNames,
    inputType: (name) => types.get(name),
    release,
    run: async (feeds, fetches) => {
      try {
        return await worker.run(feeds, { fetches: fetches && Object.keys(fetches), transfers: true });
      } catch (error) {
        throw released ? new DisposedError('the model was disposed of while it ran: load it again') : error;
      }
    },
  };
}
