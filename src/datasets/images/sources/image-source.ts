import { InvalidArgumentError } from '../../../errors.ts';
import type { SkippedImage } from '../image-set.ts';

/* What a source of images is, and what the readers of the formats share. */

/** An image as its source holds it. `label` is a class number, or a class name that is numbered once all are known. */
export interface EncodedImage {
  readonly source: string;
  readonly label: number | string | undefined;
  /** The bytes of an image file. */
  readonly encoded: Uint8Array;
}

/** An image that is read when it is decoded. */
export interface ImageFile {
  readonly source: string;
  readonly label: number | string | undefined;
  readonly path: string;
}

/** An image that needs no decoding: HWC bytes. */
export interface PlainImage {
  readonly source: string;
  readonly label: number | undefined;
  readonly pixels: Uint8Array;
  readonly height: number;
  readonly width: number;
  readonly channels: 1 | 3;
}

export type SourceImage = EncodedImage | ImageFile | PlainImage | SkippedImage;

/** Which images and labels of a source to take. */
export interface SourceChoice {
  /** 'train', 'validation', 'test' or another that the source has, or 'all'; undefined: 'train', said in a warning. */
  readonly split: string | undefined;
  /** The column or field of the labels; undefined: the first that is usual. */
  readonly labelColumn: string | undefined;
  /** Receives one line about each thing that was chosen or left out without being asked. */
  readonly warn: (message: string) => void;
}

/** Somewhere that images come from, in an order that is the same every time. */
export interface ImageSource {
  readonly name: string;
  /** `owner/name` of a data set of the Hub. */
  readonly hubId?: string | undefined;
  /** Size and channels of every image where the format fixes them; they are the defaults of the set. */
  readonly native?: { readonly height: number; readonly width: number; readonly channels: 1 | 3 };
  /** How many images there are, skipped ones included, when that is known before they are read. */
  readonly total?: number;
  /** The names of the classes by their number, where the source knows them before its images are read. */
  readonly classNames?: readonly string[] | undefined;
  /** Text that changes whenever the images may have changed; undefined if a cache is not worthwhile. */
  readonly cacheKey?: string;
  images(): AsyncIterable<SourceImage> | Iterable<SourceImage>;
}

/** Names of a column or field of classes, the first that a source has. The Hub's sets use all of them. */
const LABEL_COLUMNS = ['label', 'labels', 'fine_label', 'fine_labels', 'coarse_label', 'coarse_labels', 'class', 'cls'];

/**
 * The column of the classes among `columns`; undefined if none is usual.
 *
 * @throws {InvalidArgumentError} when the one that was asked for is not there; `where` names the source.
 */
export function labelColumnOf(
  columns: readonly string[],
  { labelColumn }: Pick<SourceChoice, 'labelColumn'>,
  where: string,
): string | undefined {
  if (labelColumn === undefined) return LABEL_COLUMNS.find((column) => columns.includes(column));
  if (columns.includes(labelColumn)) return labelColumn;
  throw new InvalidArgumentError(
    `label_column is '${labelColumn}', but ${where} has ${columns.length > 0 ? columns.join(', ') : 'no such columns'}`,
  );
}

/** The text of longer labels is a caption, not a class. */
const MAX_NAME_LENGTH = 1000;

/** The class that a value of a column or a file says: a whole number, or a name; undefined for anything else. */
export function classOf(value: unknown): number | string | undefined {
  if (typeof value === 'bigint' || typeof value === 'boolean') return classOf(Number(value));
  if (typeof value === 'number') return Number.isInteger(value) && Math.abs(value) < 2 ** 31 ? value : undefined;
  if (value instanceof Uint8Array) return value.length > MAX_NAME_LENGTH ? undefined : classOf(utf8.decode(value));
  if (typeof value !== 'string' || value.length > MAX_NAME_LENGTH) return undefined;
  const text = value.trim();
  return /^(0|-?[1-9]\d{0,8})$/.test(text) ? Number(text) : text || undefined;
}

const utf8 = new TextDecoder();

/** The record that an image pipeline leaves in a folder of generated images, which is not a lost image. */
export const GENERATION_RECORD_FILE = 'generation.json';

/** Images larger than this when encoded are skipped: they are not training images. */
export const MAX_ENCODED_BYTES = 128 * 1024 * 1024;

/** A member's path without the `./` that some programs write before it. */
export function plainPath(path: string): string {
  return path
    .split('/')
    .filter((part, i) => part !== '.' && (part !== '' || i === 0))
    .join('/');
}

/** Whether a file lies in a folder that is left out: a hidden one, or macOS's `__MACOSX` beside a packed folder. */
export function isHiddenPath(path: string): boolean {
  return path.split('/').some((part) => isHiddenFolder(part) && part !== '.' && part !== '..');
}

/** Whether a folder of this name is left out. */
export function isHiddenFolder(name: string): boolean {
  return name.startsWith('.') || name === '__MACOSX';
}

/** The name of the folder an image is in, relative to the root of its set; undefined for one in the root. */
export function folderLabel(path: string): string | undefined {
  return path.split('/').at(-2);
}
