import { type InspectedImage, inOrder, inspectImage, prepareImages } from '../datasets/images/decode.ts';
import { type ImageFormat, nothingUsable, type SkippedImage } from '../datasets/images/image-set.ts';
import type { ImageSource } from '../datasets/images/sources/image-source.ts';
import { DatasetError } from '../errors.ts';
import type { FeatureImage } from './extractors/feature-extractor.ts';

/** Images decoded at a time: as many as libuv has threads by default. */
const DECODERS = 4;

interface Inspection {
  /** The usable images: their places in the source, and the SHA-256 of their bytes. */
  readonly usable: readonly { place: number; digest: Uint8Array }[];
  readonly skipped: readonly SkippedImage[];
  readonly height: number;
  readonly width: number;
  readonly channels: 1 | 3;
}

/**
 * Decodes every image once.
 *
 * @throws {DatasetError} when no image is usable, or two are of different sizes and no `resolution` is given.
 */
export async function inspect(
  source: ImageSource,
  {
    resolution,
    signal,
  }: { readonly resolution?: readonly [number, number] | undefined; readonly signal?: AbortSignal | undefined },
): Promise<Inspection> {
  const usable: { place: number; digest: Uint8Array }[] = [];
  const skipped: SkippedImage[] = [];
  let channels: 1 | 3 = 1;
  let first: InspectedImage | undefined;
  let place = -1;
  for await (const image of inOrder(source.images(), DECODERS, inspectImage)) {
    signal?.throwIfAborted();
    place++;
    if ('reason' in image) {
      skipped.push(image);
      continue;
    }
    usable.push({ place, digest: image.digest });
    if (image.channels >= 3) channels = 3;
    first ??= image;
    const differs = image.height !== first.height || image.width !== first.width;
    if (!resolution && differs)
      throw new DatasetError(
        `${source.name} has images of different sizes: ${first.source} is ${first.height}x${first.width}, ${image.source} is ${image.height}x${image.width} (height x width). Give a resolution to resize all of them to`,
      );
  }
  if (!first) throw nothingUsable({ name: source.name, skipped });
  const [height, width] = resolution ?? [first.height, first.width];
  return { usable, skipped, height, width, channels };
}

/** The chosen images, by their places in the source. */
export async function* decodedBatches(
  source: ImageSource,
  chosen: ReadonlySet<number>,
  format: ImageFormat,
  size: number,
  signal?: AbortSignal,
): AsyncGenerator<FeatureImage[]> {
  let batch: FeatureImage[] = [];
  for await (const { data, height, width, channels } of decodedImages(source, chosen, format, signal)) {
    batch.push({ data, height, width, channels });
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

/** @throws {DatasetError} when an image can no longer be decoded. */
export async function* decodedImages(
  source: ImageSource,
  chosen: ReadonlySet<number>,
  format: ImageFormat,
  signal?: AbortSignal,
): AsyncGenerator<FeatureImage & { source: string }> {
  const { height, width, channels } = format;
  for await (const image of prepareImages(onlyChosen(source, chosen), format, DECODERS)) {
    signal?.throwIfAborted();
    if ('reason' in image)
      throw new DatasetError(`${source.name}: ${image.source} was changed during the evaluation: ${image.reason}`);
    yield { data: image.pixels, height, width, channels, source: image.source };
  }
}

function onlyChosen(source: ImageSource, chosen: ReadonlySet<number>): ImageSource {
  return {
    ...source,
    async *images() {
      let index = 0;
      for await (const image of source.images()) if (chosen.has(index++)) yield image;
    },
  };
}

/**
 * The items in their order. While one is used, the next is made: at most one is ready that was not asked for. An error
 * comes where its item would.
 */
export async function* oneAhead<Item>(items: AsyncGenerator<Item>): AsyncGenerator<Item> {
  const request = () => {
    const next = items.next();
    // Whoever asks for the item sees the failure; nobody may ask.
    next.catch(() => undefined);
    return next;
  };
  let next = request();
  try {
    for (;;) {
      const { done, value } = await next;
      if (done) return;
      next = request();
      yield value;
    }
  } finally {
    await items.return(undefined);
  }
}
