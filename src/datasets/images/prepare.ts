import { errorText } from '../../errors.ts';
import { decodeImage } from './decode.ts';
import type { ImageFormat, SizedPixels, SkippedImage } from './image-set.ts';
import type { ImageSource, SourceImage } from './sources/image-source.ts';

export interface PreparedImage extends SizedPixels {
  readonly source: string;
  readonly label: number | string | undefined;
}

/**
 * The images of a source in its order, each turned into `format`, or with the reason why it was not. At most
 * `workers` images are in memory at a time; their decoding overlaps.
 */
export async function* prepareImages(
  source: ImageSource,
  format: ImageFormat,
  workers: number,
): AsyncGenerator<PreparedImage | SkippedImage> {
  const pending: Promise<PreparedImage | SkippedImage>[] = [];
  for await (const image of source.images()) {
    pending.push(prepareOne(image, format));
    if (pending.length >= workers) yield await (pending.shift() as Promise<PreparedImage>);
  }
  for (const last of pending) yield await last;
}

/** Never rejects: an image that cannot be decoded is one to be skipped. */
async function prepareOne(image: SourceImage, format: ImageFormat): Promise<PreparedImage | SkippedImage> {
  if ('reason' in image) return image;
  try {
    return { source: image.source, label: image.label, ...(await decodeImage(image, format)) };
  } catch (error) {
    return { source: image.source, reason: errorText(error).split('\n', 1)[0] as string };
  }
}
