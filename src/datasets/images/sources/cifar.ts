import { basename } from 'node:path';
import { DatasetError } from '../../../errors.ts';
import { fileStates, type ImageSource, type PlainImage, readUnpacked, type SourceImage } from './image-source.ts';
import { tarMembers } from './tar.ts';

/** A record is a label byte, then 32x32 bytes of red, of green and of blue (https://www.cs.toronto.edu/~kriz/cifar.html). */
const SIDE = 32;
const PLANE = SIDE * SIDE;
const RECORD = 1 + 3 * PLANE;
const CLASSES = 10;
const MAX_BATCH_BYTES = 1024 ** 3;

export function isCifarArchive(path: string): boolean {
  return /^cifar-10-binary\.(tar|tar\.gz|tgz)$/i.test(basename(path));
}

/** Whether a file name is one of a training batch. The test batch is left out. */
export function isCifarBatch(name: string): boolean {
  return /^data_batch_\d+\.bin$/.test(basename(name));
}

/** CIFAR-10 images of binary batch files, in the given order. */
export function cifarFilesSource(name: string, paths: readonly string[]): Promise<ImageSource> {
  return cifarSource(name, paths, async function* () {
    for (const path of paths) yield* parseCifarBatch(await readUnpacked(path), basename(path));
  });
}

/** CIFAR-10 training images straight from `cifar-10-binary.tar.gz`, in the order of the archive. */
export function cifarArchiveSource(path: string): Promise<ImageSource> {
  return cifarSource(path, [path], async function* () {
    const batches = tarMembers(path, ({ name, type, size = 0 }) => {
      if (type !== 'file' || !isCifarBatch(name)) return undefined;
      return size > MAX_BATCH_BYTES ? { reason: `${size} bytes are too many for a batch of CIFAR-10` } : { keep: true };
    });
    for await (const batch of batches) {
      if ('reason' in batch) yield batch;
      else yield* parseCifarBatch(batch.bytes, batch.source);
    }
  });
}

async function cifarSource(
  name: string,
  files: readonly string[],
  images: () => AsyncIterable<SourceImage>,
): Promise<ImageSource> {
  const native = { height: SIDE, width: SIDE, channels: 3 } as const;
  return { name, native, cacheKey: `cifar ${await fileStates(files)}`, images };
}

/** The images of one batch file; `where` names it in errors. @throws {DatasetError} when it is not one. */
function* parseCifarBatch(bytes: Uint8Array, where: string): Generator<PlainImage> {
  if (bytes.length === 0 || bytes.length % RECORD !== 0)
    throw new DatasetError(
      `${where} has ${bytes.length} bytes, not a multiple of ${RECORD}: it is not a batch of CIFAR-10, or is damaged`,
    );
  for (let begin = 0, index = 0; begin < bytes.length; begin += RECORD, index++) {
    const label = bytes[begin] as number;
    if (label >= CLASSES)
      throw new DatasetError(`${where}, image ${index}: class ${label} is not one of 0..${CLASSES - 1}`);
    yield {
      source: `${where}, image ${index}`,
      label,
      pixels: interleaved(bytes, begin + 1),
      height: SIDE,
      width: SIDE,
      channels: 3,
    };
  }
}

function interleaved(bytes: Uint8Array, begin: number): Uint8Array {
  const pixels = new Uint8Array(3 * PLANE);
  for (let i = 0; i < PLANE; i++) {
    pixels[3 * i] = bytes[begin + i] as number;
    pixels[3 * i + 1] = bytes[begin + PLANE + i] as number;
    pixels[3 * i + 2] = bytes[begin + 2 * PLANE + i] as number;
  }
  return pixels;
}
