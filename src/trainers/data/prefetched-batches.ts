import { hasThreads, startScript } from '#threads/scripts';
import { errorText, RuntimeExecutionError } from '../../errors.ts';
import { concatenated } from '../../graph/types.ts';
import type { Channel } from '../../threads/channel.ts';
import type { HostBatch } from '../step/batch.ts';
import type { BatchSpec, BatchStream, StepImages } from './batch-stream.ts';

/** Where an engine gets the batches of its steps; the random integers of dropouts are those of `BatchStream`. */
export interface Batches extends Pick<BatchStream, 'dropoutNumbers'> {
  /** The inputs of `count` steps from step `first` (counted from 0). */
  steps(first: number, count: number): HostBatch | Promise<HostBatch>;
}

/** What the worker is asked: one step, with its images in the order of the batch. */
export interface StepRequest extends StepImages {
  readonly step: number;
}

/** Steps of fewer values are prepared in less than a millisecond, too little work for a thread. */
const MIN_VALUES = 2 ** 15;
/** Batches that are prepared beforehand take at most so many bytes: a run on cuda of 100 steps of 128 images of 32x32. */
const MAX_AHEAD_BYTES = 2 ** 29;

/** Batches that may come from a thread, which `close` ends. */
interface OpenBatches extends Batches {
  close(): Promise<void>;
}

/** Batches that a worker prepares where they are images and large enough for it to pay off. */
export function openBatches(batches: BatchStream): OpenBatches {
  const { spec } = batches;
  const values = spec && spec.batchSize * spec.images.channels * spec.images.height * spec.images.width;
  if (hasThreads && spec && Number(values) >= MIN_VALUES) return new PrefetchedBatches(batches, spec);
  return {
    steps: (first, count) => batches.steps(first, count),
    dropoutNumbers: (place, target) => batches.dropoutNumbers(place, target),
    close: async () => undefined,
  };
}

/**
 * Batches of images that a worker thread prepares while onnxruntime, which blocks the calling thread, runs the step
 * before: noise, augmentation and the way from bytes to floats. A step depends on the seed and its number alone: the
 * bits are the same as without the worker. Until it has started, steps are prepared here.
 */
export class PrefetchedBatches implements OpenBatches {
  /** Resolves once the thread prepares batches, or has failed to start. */
  readonly started: Promise<void>;
  private readonly channel: Channel<StepRequest, HostBatch>;
  private readonly pending = new Map<number, Promise<HostBatch>>();
  private ready = false;
  private failure: Error | undefined;

  /** @param spec of `batches`; `close` has to be called at the end. */
  constructor(
    private readonly batches: BatchStream,
    spec: BatchSpec,
  ) {
    this.channel = startScript('trainers/data/batch-worker.ts', spec);
    this.started = this.channel.started().then(
      () => {
        this.ready = true;
      },
      (cause: unknown) => void this.fail(cause),
    );
  }

  /** @throws {RuntimeExecutionError} when the worker failed. */
  async steps(first: number, count: number): Promise<HostBatch> {
    if (this.failure) throw this.failure;
    const parts = await Promise.all(
      Array.from({ length: count }, (_, i) => this.pending.get(first + i) ?? this.batches.steps(first + i, 1)),
    );
    for (const step of this.pending.keys()) if (step < first + count) this.pending.delete(step);
    const result = joined(parts);
    const bytes = Object.values(result).reduce((sum, part) => sum + (part?.byteLength ?? 0), 0);
    if (this.ready) this.request(first + count, count, bytes / count);
    return result;
  }

  /** Drawn here: they are few, and engines ask for them batch by batch. */
  dropoutNumbers(...place: Parameters<BatchStream['dropoutNumbers']>): Float32Array {
    return this.batches.dropoutNumbers(...place);
  }

  async close(): Promise<void> {
    this.fail(new Error('it was closed'));
    await this.channel.release();
  }

  /** Asks for the steps that come next; `bytes` is the size of the samples of one with their noise. */
  private request(first: number, count: number, bytes: number): void {
    const ahead = Math.max(1, Math.min(count, Math.floor(MAX_AHEAD_BYTES / bytes)));
    for (let step = first; step < first + ahead; step++) {
      if (this.pending.has(step)) continue;
      const sent = this.batches.images(step);
      const transfer = [...sent.images, ...sent.conditions].map(({ pixels }) => pixels.buffer as ArrayBuffer);
      const batches = this.channel.call({ step, ...sent }, { transfer }).catch((cause: unknown) => {
        throw this.fail(cause);
      });
      // Whoever asks for the step sees the failure; a step that nobody asks for must not end the process.
      batches.catch(() => undefined);
      this.pending.set(step, batches);
    }
  }

  /** Remembers the first failure, and returns it. */
  private fail(cause: unknown): Error {
    this.failure ??= new RuntimeExecutionError(`the thread that prepares batches failed: ${errorText(cause)}`, {
      cause,
    });
    return this.failure;
  }
}

/** The batches of several steps, one after another. */
export function joined(parts: readonly HostBatch[]): HostBatch {
  const { class_labels, input_noise, condition } = parts[0] ?? {};
  return {
    clean: concatenated(parts.map(({ clean }) => clean)),
    noise: concatenated(parts.map(({ noise }) => noise)),
    input_noise: input_noise && concatenated(parts.map((part) => part.input_noise ?? new Float32Array())),
    timestep: concatenated(parts.map(({ timestep }) => timestep)),
    class_labels: class_labels && concatenated(parts.map((part) => part.class_labels ?? new Int32Array())),
    condition: condition && concatenated(parts.map((part) => part.condition ?? new Float32Array())),
  };
}
