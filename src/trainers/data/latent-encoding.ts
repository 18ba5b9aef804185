// Encodes the images of a set, once, into a file.
import type { AutoencoderSession } from '../../autoencoders/session.ts';
import { fillSample } from '../../datasets/images/augment.ts';
import type { ImageSet } from '../../datasets/images/image-set.ts';
import { DatasetError } from '../../errors.ts';
import { elementCount } from '../../graph/types.ts';
import { STREAM } from '../../random/random-stream.ts';
import { SampleStreams } from '../../random/sample-streams.ts';
import { type LatentRows, openLatentFile, writeLatentFile } from './latent-file.ts';

/** Images, what encodes them, and where the latents are kept. */
interface LatentJob {
  readonly set: ImageSet;
  readonly session: AutoencoderSession;
  /** Draws from the encoder's distributions; undefined: their means are taken, or a VQ autoencoder has none. */
  readonly seed: number | undefined;
  /** Of one latent. */
  readonly sampleShape: readonly number[];
  readonly file: string;
  /** As many as images, or twice as many: the mirrored ones follow the others. */
  readonly rows: number;
  /** Latents of more bytes are read from the file row by row. */
  readonly maxMemoryBytes: number;
  readonly onProgress: ((progress: { readonly done: number; readonly total: number }) => void) | undefined;
}

/** Images are read this many at a time, or fewer large ones; how many are encoded at once, the session knows. */
const IMAGES_AT_ONCE = 64;
const PIXELS_AT_ONCE = 2 ** 20;

/**
 * The latents of the images, which are not scaled: those of the file, or where there is none they are encoded.
 *
 * @throws {DatasetError} when an image is encoded as NaN or infinity.
 * @throws `signal.reason` when the signal aborts. The file is not there then.
 */
export async function encodedRows(job: LatentJob, signal: AbortSignal | undefined): Promise<LatentRows> {
  const { file, rows, sampleShape, maxMemoryBytes } = job;
  const stored = () => openLatentFile(file, { rows, valuesPerRow: elementCount(sampleShape) }, maxMemoryBytes);
  const found = await stored();
  if (found) return found;
  await writeLatentFile(file, encoded(job, signal));
  const written = await stored();
  if (written) return written;
  throw new DatasetError(`the cache ${file} was removed or changed while it was opened: try again`);
}

async function* encoded(job: LatentJob, signal: AbortSignal | undefined): AsyncGenerator<Float32Array> {
  const { set, rows, sampleShape, onProgress } = job;
  const { count, channels, height, width } = set;
  const size = channels * height * width;
  const group = Math.max(1, Math.min(IMAGES_AT_ONCE, Math.floor(PIXELS_AT_ONCE / (height * width))));
  for (let first = 0; first < rows; ) {
    signal?.throwIfAborted();
    const end = Math.min(first + group, first < count ? count : rows);
    const data = new Float32Array((end - first) * size);
    for (let row = first; row < end; row++)
      fillSample(data, (row - first) * size, set.pixels(row % count), set, { flip: row >= count });
    const latents = await latentsOf(job, data, first);
    const wrong = latents.findIndex((value) => !Number.isFinite(value));
    if (wrong >= 0)
      throw new DatasetError(
        `image ${(first + Math.floor(wrong / elementCount(sampleShape))) % count} of '${set.name}' is encoded as ${latents[wrong]}: the autoencoder is not usable`,
      );
    yield latents;
    first = end;
    onProgress?.({ done: first, total: rows });
  }
}

/** @param data images, one after another. @param first the row of the first. */
async function latentsOf({ set, session, seed, sampleShape }: LatentJob, data: Float32Array, first: number) {
  const { channels, height, width } = set;
  const count = data.length / (channels * height * width);
  const images = { data, shape: [count, channels, height, width] as const };
  if (seed === undefined) return (await session.encode(images)).data;
  const size = elementCount(sampleShape);
  const streams = new SampleStreams(seed, count, size, first, [STREAM.latents]);
  return (await session.encode(images, { noise: streams.fillNormal(new Float32Array(count * size)) })).data;
}

/** 1 / the standard deviation of all values, to 5 digits, so that another device measures the same. */
export function measuredFactor(rowOf: LatentRows, rows: number, name: string): number {
  const sum = (term: (value: number) => number) => {
    let [total, count] = [0, 0];
    for (let row = 0; row < rows; row++)
      for (const value of rowOf(row)) {
        total += term(value);
        count++;
      }
    return total / count;
  };
  const mean = sum((value) => value);
  const deviation = Math.sqrt(sum((value) => (value - mean) ** 2));
  if (deviation > 0 && Number.isFinite(1 / deviation)) return Number((1 / deviation).toPrecision(5));
  throw new DatasetError(
    `the latents of '${name}' have the standard deviation ${deviation}, which cannot be scaled to 1: the autoencoder is not usable, or give scaling_factor`,
  );
}
