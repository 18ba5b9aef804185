import type { SkippedPicture } from './image-set.ts';

/** A picture as its source holds it. `label` is a class number, or a class name that is numbered once all are known. */
export interface EncodedPicture {
  readonly source: string;
  readonly label: number | string | undefined;
  /** The bytes of a PNG, JPEG, WebP, GIF, TIFF or AVIF file. */
  readonly encoded: Uint8Array;
}

/** A picture that needs no decoding: HWC bytes. */
export interface PlainPicture {
  readonly source: string;
  readonly label: number | undefined;
  readonly pixels: Uint8Array;
  readonly height: number;
  readonly width: number;
  readonly channels: 1 | 3;
}

export type SourcePicture = EncodedPicture | PlainPicture | SkippedPicture;

/** Somewhere that pictures come from, in an order that is the same every time. */
export interface PictureSource {
  readonly name: string;
  /** Size and channels of every picture where the format fixes them; they are the defaults of the set. */
  readonly native: { readonly height: number; readonly width: number; readonly channels: 1 | 3 } | undefined;
  /** How many pictures there are, skipped ones included, when that is known beforehand. */
  readonly total: number | undefined;
  /** Text that changes whenever the pictures may have changed; undefined: not worth a cache. */
  readonly cacheKey: string | undefined;
  pictures(): AsyncIterable<SourcePicture> | Iterable<SourcePicture>;
}

/** Pictures larger than this when encoded are skipped: they are not training pictures. */
export const MAX_ENCODED_BYTES = 128 * 1024 * 1024;

const EXTENSIONS = /\.(png|jpe?g|webp|gif|tiff?|avif)$/i;

/** Whether a file name is one of a picture; hidden files (`._x.jpg` of macOS archives) are not. */
export function isPictureName(path: string): boolean {
  const name = path.slice(path.lastIndexOf('/') + 1);
  return EXTENSIONS.test(name) && !name.startsWith('.');
}

/** The name of the folder a picture is in, relative to the root of its set; undefined for one in the root. */
export function folderLabel(path: string): string | undefined {
  return path.split('/').at(-2);
}
