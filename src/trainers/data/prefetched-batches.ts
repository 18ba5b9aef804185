import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { SizedPixels } from '../../datasets/images/image-set.ts';
import { RuntimeExecutionError } from '../../runtime/session.ts';
import type { HostBatch } from '../step/batch.ts';
import type { BatchSpec, BatchStream } from './batch-stream.ts';

/** Where an engine gets the batches of its steps; the random integers of dropouts are those of `BatchStream`. */
export interface Batches extends Pick<BatchStream, 'dropoutNumbers'> {
  /** The inputs of `count` steps from step `first` (counted from 0). */
  steps(first: number, count: number): HostBatch | Promise<HostBatch>;
}

/** What the worker is asked: one step, with its images in the order of the batch. */
export interface StepRequest {
  readonly step: number;
  readonly images: readonly SizedPixels[];
}
/** What it answers. */
export interface StepAnswer {
  readonly step: number;
  readonly batches?: HostBatch;
  readonly error?: string;
}

/** Steps of fewer values are prepared in less than a millisecond, for which no thread is worth while. */
const MIN_VALUES = 2 ** 15;
/** Batches that are prepared beforehand take at most so many bytes. */
const MAX_AHEAD_BYTES = 2 ** 26;

/** A supply that may hold a thread, which `close` ends. */
export interface OpenBatches extends Batches {
  close(): Promise<void>;
}

/** Batches that a worker prepares where they are images and large enough for it to pay off. */
export function openBatches(batches: BatchStream): OpenBatches {
  const { spec } = batches;
  if (spec && spec.batchSize * spec.images.channels * spec.images.height * spec.images.width >= MIN_VALUES)
    return new PrefetchedBatches(batches, spec);
  return {
    steps: (first, count) => batches.steps(first, count),
    dropoutNumbers: (place, target) => batches.dropoutNumbers(place, target),
    close: async () => undefined,
  };
}

interface Pending {
  readonly promise: Promise<HostBatch>;
  resolve(batches: HostBatch): void;
  reject(error: Error): void;
}

/**
 * Batches of images that a worker thread prepares while onnxruntime, which blocks the calling thread, runs the step
 * before: noise, augmentation and the way from bytes to floats. A step depends on the seed and its number alone, so
 * that the bits are the same as without the worker; until it has started, steps are prepared here.
 */
export class PrefetchedBatches implements OpenBatches {
  /** Resolves once the thread prepares batches. */
  readonly started: Promise<void>;
  private readonly worker: Worker;
  private readonly pending = new Map<number, Pending>();
  private ready = false;
  private failure: Error | undefined;

  /** @param spec of `batches`; `close` has to be called at the end. */
  constructor(
    private readonly batches: BatchStream,
    spec: BatchSpec,
  ) {
    this.worker = startWorker(spec);
    this.started = new Promise((resolve) => {
      this.worker.on('message', (answer: StepAnswer | 'ready') => {
        if (answer !== 'ready') return this.settle(answer);
        this.ready = true;
        resolve();
      });
    });
    this.worker.on('error', (error) => this.fail(error));
    this.worker.on('exit', (code) => this.fail(new Error(`it ended with code ${code}`)));
  }

  /** @throws {RuntimeExecutionError} when the worker failed. */
  async steps(first: number, count: number): Promise<HostBatch> {
    if (this.failure) throw this.failure;
    const parts = await Promise.all(
      Array.from(
        { length: count },
        (_, i) => this.pending.get(first + i)?.promise ?? this.batches.steps(first + i, 1),
      ),
    );
    for (const step of this.pending.keys()) if (step < first + count) this.pending.delete(step);
    const result = joined(parts);
    if (this.ready) this.request(first + count, count, result.clean.byteLength / count);
    return result;
  }

  /** Drawn here: they are few, and engines ask for them batch by batch. */
  dropoutNumbers(...place: Parameters<BatchStream['dropoutNumbers']>): Float32Array {
    return this.batches.dropoutNumbers(...place);
  }

  async close(): Promise<void> {
    this.fail(new Error('it was closed'));
    await this.worker.terminate();
  }

  /** Asks for the steps that come next; `bytes` is the size of the samples of one, beside which lies as much noise. */
  private request(first: number, count: number, bytes: number): void {
    const ahead = Math.max(1, Math.min(count, Math.floor(MAX_AHEAD_BYTES / (2 * bytes))));
    for (let step = first; step < first + ahead; step++) {
      if (this.pending.has(step)) continue;
      const request: StepRequest = { step, images: this.batches.images(step) };
      let settle: Omit<Pending, 'promise'> | undefined;
      const promise = new Promise<HostBatch>((resolve, reject) => {
        settle = { resolve, reject };
      });
      // Whoever asks for the step sees the failure; a step nobody asks for must not end the process.
      promise.catch(() => undefined);
      if (settle) this.pending.set(step, { promise, ...settle });
      this.worker.postMessage(
        request,
        request.images.map(({ pixels }) => pixels.buffer as ArrayBuffer),
      );
    }
  }

  private settle({ step, batches, error }: StepAnswer): void {
    const pending = this.pending.get(step);
    if (batches) pending?.resolve(batches);
    else this.fail(new Error(error ?? 'no reason was given'));
  }

  private fail(cause: Error): void {
    if (this.failure) return;
    this.failure = new RuntimeExecutionError(`the thread that prepares batches failed: ${cause.message}`, {
      cause,
    });
    for (const { reject } of this.pending.values()) reject(this.failure);
  }
}

/** Where this package runs from its TypeScript sources, a worker has to load the loader of them itself. */
function startWorker(spec: BatchSpec): Worker {
  if (!import.meta.url.endsWith('.ts'))
    return new Worker(new URL('./batch-worker.js', import.meta.url), { workerData: spec });
  const commonJs = createRequire(import.meta.url).resolve('tsx/esm/api');
  const loader = pathToFileURL(commonJs.replace(/\.cjs$/, '.mjs')).href;
  const { href } = new URL('./batch-worker.ts', import.meta.url);
  const script = `import('${loader}').then(({ register }) => (register(), import('${href}')))`;
  return new Worker(script, { eval: true, execArgv: [], workerData: spec });
}

function joined(parts: readonly HostBatch[]): HostBatch {
  const [only, ...others] = parts;
  if (only && others.length === 0) return only;
  const floats = (key: 'clean' | 'noise') => {
    const total = new Float32Array(parts.reduce((sum, part) => sum + part[key].length, 0));
    let offset = 0;
    for (const part of parts) {
      total.set(part[key], offset);
      offset += part[key].length;
    }
    return total;
  };
  const ints = (pieces: readonly Int32Array[]) => {
    const total = new Int32Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
    let offset = 0;
    for (const piece of pieces) {
      total.set(piece, offset);
      offset += piece.length;
    }
    return total;
  };
  const labels = parts.flatMap(({ class_labels }) => (class_labels ? [class_labels] : []));
  return {
    clean: floats('clean'),
    noise: floats('noise'),
    timestep: ints(parts.map(({ timestep }) => timestep)),
    class_labels: labels.length > 0 ? ints(labels) : undefined,
  };
}
