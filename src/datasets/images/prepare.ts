import { decodePicture } from './decode.ts';
import type { PictureFormat, SizedPixels, SkippedPicture } from './image-set.ts';
import type { PictureSource, SourcePicture } from './picture-source.ts';

export interface PreparedPicture extends SizedPixels {
  readonly source: string;
  readonly label: number | string | undefined;
}

/**
 * The pictures of a source in its order, each turned into `format`, or with the reason why it was not. At most
 * `workers` pictures are in memory at a time; their decoding overlaps.
 */
export async function* preparePictures(
  source: PictureSource,
  format: PictureFormat,
  workers: number,
): AsyncGenerator<PreparedPicture | SkippedPicture> {
  const pending: Promise<PreparedPicture | SkippedPicture>[] = [];
  for await (const picture of source.pictures()) {
    pending.push(prepareOne(picture, format));
    if (pending.length >= workers) yield await (pending.shift() as Promise<PreparedPicture>);
  }
  for (const last of pending) yield await last;
}

/** Never rejects: a picture that cannot be decoded is one to be skipped. */
async function prepareOne(
  picture: SourcePicture,
  format: PictureFormat,
): Promise<PreparedPicture | SkippedPicture> {
  if ('reason' in picture) return picture;
  try {
    return { source: picture.source, label: picture.label, ...(await decodePicture(picture, format)) };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { source: picture.source, reason: message.split('\n', 1)[0] as string };
  }
}
