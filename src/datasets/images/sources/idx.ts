import { basename, dirname, join } from 'node:path';
import { DatasetError } from '../../../errors.ts';
import { kindNote } from '../../../files/known-files.ts';
import { isFile } from '../../../files/regular-file.ts';
import { type ImageSource, labelColumnOf, type PlainImage, type SourceChoice } from './image-source.ts';
import { fileStates, readUnpacked } from './source-files.ts';

/** Type code 8 is unsigned byte; the last byte is the number of dimensions (http://yann.lecun.com/exdb/mnist). */
const IMAGES_MAGIC = 0x00000803;
const LABELS_MAGIC = 0x00000801;
const MAX_SIDE = 16384;

/** Whether a path is named as MNIST's files of images are: `train-images-idx3-ubyte`, also with `.idx3` or `.gz`. */
export function isIdxImages(path: string): boolean {
  return /[-.]idx3-ubyte(\.gz)?$/i.test(path);
}

/**
 * Grey images of an IDX file. Labels come from the file beside it whose name has `labels` and `idx1` where this one
 * has `images` and `idx3`, if there is one.
 */
export async function idxSource(path: string, choice: Pick<SourceChoice, 'labelColumn'>): Promise<ImageSource> {
  labelColumnOf([], choice, path);
  const labelPath = await labelsBeside(path);
  const images = parseIdxImages(await readUnpacked(path), path);
  const labels = labelPath === undefined ? undefined : parseIdxLabels(await readUnpacked(labelPath), labelPath);
  if (labels && labels.length !== images.count)
    throw new DatasetError(
      `${labelPath} has ${labels.length} labels, but ${path} has ${images.count} images: they do not belong together`,
    );
  const { count, height, width, pixels } = images;
  return {
    name: path,
    native: { height, width, channels: 1 },
    total: count,
    cacheKey: `idx ${await fileStates(labelPath === undefined ? [path] : [path, labelPath])}`,
    *images(): Generator<PlainImage> {
      for (let i = 0; i < count; i++) {
        const begin = i * height * width;
        yield {
          source: `${basename(path)}, image ${i}`,
          label: labels?.[i],
          pixels: pixels.subarray(begin, begin + height * width),
          height,
          width,
          channels: 1,
        };
      }
    },
  };
}

async function labelsBeside(path: string): Promise<string | undefined> {
  const name = basename(path)
    .replace(/images/i, 'labels')
    .replace(/idx3/i, 'idx1');
  const plain = name.replace(/\.gz$/i, '');
  for (const candidate of [name, plain, `${plain}.gz`]) {
    const beside = join(dirname(path), candidate);
    if (beside !== path && (await isFile(beside))) return beside;
  }
  return undefined;
}

/** A file of images, count x height x width bytes; `where` names it in errors. @throws {DatasetError} if it is not one. */
function parseIdxImages(bytes: Uint8Array, where: string) {
  const view = header(bytes, 16, IMAGES_MAGIC, where, 'images');
  const [count, height, width] = [view.getUint32(4), view.getUint32(8), view.getUint32(12)];
  if (count < 1 || height < 1 || width < 1 || height > MAX_SIDE || width > MAX_SIDE)
    throw new DatasetError(`${where} says it has ${count} images of ${height}x${width}: such a file is not read`);
  requireLength(bytes, 16 + count * height * width, where);
  return { count, height, width, pixels: bytes.subarray(16) };
}

/** Parses a file of labels. @throws {DatasetError} when it is not exactly one. */
function parseIdxLabels(bytes: Uint8Array, where: string): Uint8Array {
  const view = header(bytes, 8, LABELS_MAGIC, where, 'labels');
  requireLength(bytes, 8 + view.getUint32(4), where);
  return bytes.subarray(8);
}

function header(bytes: Uint8Array, length: number, magic: number, where: string, what: string): DataView {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < length || view.getUint32(0) !== magic)
    throw new DatasetError(
      `${where} is not an IDX file of ${what}: it must begin with 0x${magic.toString(16).padStart(8, '0')}${kindNote(bytes)}`,
    );
  return view;
}

function requireLength(bytes: Uint8Array, expected: number, where: string): void {
  if (bytes.length !== expected)
    throw new DatasetError(`${where} has ${bytes.length} bytes, but its header promises ${expected}: it is damaged`);
}
