// The noise of a run, drawn before the step that needs it where a thread can do so.
import { hasThreads, startScript } from '#threads/scripts';
import { errorText, RuntimeExecutionError } from '../errors.ts';
import type { Channel } from '../threads/channel.ts';
import { type NoiseCall, type NoiseStreams, startNoise } from './editing/latents.ts';

/** Where steps get their noise, one after another. `close` has to be called at the end. */
export interface StepNoise {
  /** The noise that the samples start from, before the scheduler scales it: the first call of all. */
  start(): Promise<Float32Array>;
  /**
   * Standard normals [steps, samples, ...] for those of `steps` that are true; the others have any numbers. The next call
   * is for the steps `after` them. The array may be filled anew by it.
   */
  take(steps: readonly boolean[], after: readonly boolean[]): Promise<Float32Array>;
  close(): Promise<void>;
}

/** What a thread draws: the noise of `count` samples of a call from `first` on, `size` values each. */
export interface NoiseSpec extends NoiseCall {
  readonly count: number;
  readonly size: number;
  readonly first: number;
}

/** Drawing fewer values than this takes less time than a thread to start. */
const MIN_VALUES = 2 ** 22;

/**
 * @param streams from which the noise is drawn here where no thread pays off.
 * @param ahead whether the calling thread waits for a device that a thread could work beside.
 * @param noisySteps how many steps will need noise.
 */
export function stepNoise(
  spec: NoiseSpec,
  streams: NoiseStreams,
  { ahead, noisySteps }: { readonly ahead: boolean; readonly noisySteps: number },
): StepNoise {
  if (ahead && hasThreads && noisySteps * spec.count * spec.size >= MIN_VALUES) return new NoiseThread(spec);
  let noise = new Float32Array();
  return {
    start: async () => startNoise(spec, streams, spec.first),
    take: async (steps) => {
      const length = steps.length * spec.count * spec.size;
      if (noise.length < length) noise = new Float32Array(length);
      return drawSteps(streams, steps, noise.subarray(0, length));
    },
    close: async () => undefined,
  };
}

/** Fills `target`, [steps, samples, ...], for those steps that are true. */
export function drawSteps(streams: NoiseStreams, steps: readonly boolean[], target: Float32Array): Float32Array {
  const size = streams.count * streams.valuesPerSample;
  for (const [i, needed] of steps.entries()) if (needed) streams.fillNormal(target.subarray(i * size, (i + 1) * size));
  return target;
}

/** What the thread is asked for: the noise to start from, or that of steps. */
export type NoiseRequest = 'start' | readonly boolean[];

/** Draws the noise of the next steps while onnxruntime, which blocks the calling thread, runs these. */
class NoiseThread implements StepNoise {
  private readonly channel: Channel<NoiseRequest, Float32Array>;
  private coming: Promise<Float32Array> | undefined;

  constructor(spec: NoiseSpec) {
    this.channel = startScript('pipelines/noise-worker.ts', spec);
  }

  start(): Promise<Float32Array> {
    return this.ask('start');
  }

  take(steps: readonly boolean[], after: readonly boolean[]): Promise<Float32Array> {
    const now = this.coming ?? this.ask(steps);
    this.coming = after.length > 0 ? this.ask(after) : undefined;
    return now;
  }

  async close(): Promise<void> {
    await this.channel.release();
  }

  private ask(request: NoiseRequest): Promise<Float32Array> {
    const answer = this.channel.call(request).catch((cause: unknown) => {
      throw new RuntimeExecutionError(`the thread that draws the noise failed: ${errorText(cause)}`, { cause });
    });
    // Whoever takes it sees the failure; noise that nobody takes must not end the process.
    answer.catch(() => undefined);
    return answer;
  }
}
