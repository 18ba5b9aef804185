import { createHash } from 'node:crypto';
import sharp from 'sharp';
import { MAX_PICTURE_PIXELS } from '../../datasets/images/decode.ts';
import type { PictureFormat } from '../../datasets/images/image-set.ts';
import { defaultCacheDir } from '../../datasets/images/load-images.ts';
import { openSource } from '../../datasets/images/open-source.ts';
import { pictureFormatOf } from '../../datasets/images/picture-format.ts';
import type { PictureSource, SourcePicture } from '../../datasets/images/picture-source.ts';
import { preparePictures } from '../../datasets/images/prepare.ts';
import { DatasetError } from '../../errors.ts';
import type { FeatureImage } from '../features/feature-extractor.ts';
import type { EvaluationImages, Selection } from './evaluation-images.ts';

/** Pictures decoded at a time; libuv runs at most four of them in parallel. */
const DECODERS = 8;

export interface StoredImagesOptions {
  /** [height, width] that every picture is resized to (shorter side, antialiased, centre kept); default: as they are. */
  readonly resolution?: readonly [number, number];
  readonly select: Selection;
  /** Where downloads lie. */
  readonly cacheDir?: string;
  readonly signal?: AbortSignal;
}

/**
 * The pictures of anything `loadImages` reads, in their own size, decoded batch after batch: a set of any size is never
 * held. All headers are read first, so that what cannot be compared is refused before the work begins.
 *
 * @throws {DatasetError} that names the first picture that cannot be read, or two pictures of different sizes.
 * @throws {InvalidArgumentError} when the source is unknown or has too few pictures.
 */
export async function storedImages(source: string, options: StoredImagesOptions): Promise<EvaluationImages> {
  const places = { cacheDir: options.cacheDir ?? defaultCacheDir(), dataDir: undefined };
  const pictures = await openSource(source, places);
  const { digests, height, width, channels } = await inspect(pictures, options);
  const indices = options.select(pictures.name, digests.length);
  const format: PictureFormat = { height, width, channels, crop: 'center', interpolation: 'bilinear' };
  const hash = createHash('sha256').update(JSON.stringify([format, sharp.versions.vips]));
  for (const index of indices) hash.update(digests[index] as Buffer);
  return {
    name: pictures.name,
    count: indices.length,
    height,
    width,
    channels,
    fingerprint: hash.digest('hex'),
    batches: (size, signal) => decodedBatches(pictures, new Set(indices), format, size, signal),
  };
}

interface Inspection {
  /** SHA-256 of each picture's bytes. */
  readonly digests: readonly Buffer[];
  readonly height: number;
  readonly width: number;
  readonly channels: 1 | 3;
}

async function inspect(
  source: PictureSource,
  { resolution, signal }: StoredImagesOptions,
): Promise<Inspection> {
  const digests: Buffer[] = [];
  let channels: 1 | 3 = 1;
  let first: { source: string; height: number; width: number } | undefined;
  for await (const picture of source.pictures()) {
    signal?.throwIfAborted();
    const header = await headerOf(picture).catch((cause: Error) => {
      throw unreadable(source.name, picture.source, cause.message, cause);
    });
    digests.push(header.digest);
    if (header.channels === 3) channels = 3;
    first ??= { source: picture.source, height: header.height, width: header.width };
    const differs = header.height !== first.height || header.width !== first.width;
    if (!resolution && differs)
      throw new DatasetError(
        `${source.name} has pictures of different sizes: ${first.source} is ${first.height}x${first.width}, ${picture.source} is ${header.height}x${header.width} (height x width). Give a resolution to resize all of them to`,
      );
  }
  if (!first) throw new DatasetError(`${source.name} has no picture`);
  const [height, width] = resolution ?? [first.height, first.width];
  return { digests, height, width, channels };
}

async function headerOf(picture: SourcePicture): Promise<Omit<Inspection, 'digests'> & { digest: Buffer }> {
  if ('reason' in picture) throw new Error(picture.reason);
  const bytes = 'pixels' in picture ? picture.pixels : picture.encoded;
  const digest = createHash('sha256').update(bytes).digest();
  if ('pixels' in picture) {
    const { height, width, channels } = picture;
    return { height, width, channels, digest };
  }
  if (pictureFormatOf(bytes) === undefined)
    throw new Error('not a PNG, JPEG, WebP, GIF, TIFF or AVIF picture');
  const { autoOrient, channels } = await sharp(bytes, { limitInputPixels: MAX_PICTURE_PIXELS }).metadata();
  return { height: autoOrient.height, width: autoOrient.width, channels: channels < 3 ? 1 : 3, digest };
}

async function* decodedBatches(
  source: PictureSource,
  chosen: ReadonlySet<number>,
  format: PictureFormat,
  size: number,
  signal?: AbortSignal,
): AsyncGenerator<FeatureImage[]> {
  const { height, width, channels } = format;
  let batch: FeatureImage[] = [];
  for await (const picture of preparePictures(onlyChosen(source, chosen), format, DECODERS)) {
    signal?.throwIfAborted();
    if ('reason' in picture) throw unreadable(source.name, picture.source, picture.reason);
    batch.push({ data: picture.pixels, height, width, channels });
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

function onlyChosen(source: PictureSource, chosen: ReadonlySet<number>): PictureSource {
  return {
    ...source,
    async *pictures() {
      let index = 0;
      for await (const picture of source.pictures()) if (chosen.has(index++)) yield picture;
    },
  };
}

function unreadable(set: string, picture: string, reason: string, cause?: Error): DatasetError {
  const [line] = reason.split('\n', 1);
  return new DatasetError(`${set}: the picture ${picture} cannot be read: ${line}. Repair or remove it`, {
    cause,
  });
}
