import { createHash } from 'node:crypto';
import { constants, openSync, readSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { z } from 'zod';
import { DatasetError, InvalidArgumentError } from '../../errors.ts';
import { writeFileAtomic } from '../../hub/atomic-file.ts';
import type { ImageSet, SkippedPicture } from './image-set.ts';
import { LabelNumbers } from './label-numbers.ts';
import type { PreparedPicture } from './prepare.ts';

/*
 * The cache file: pixels of all pictures (count x height x width x channels bytes), labels (int32, little endian, when
 * there are any), a JSON description, its length (uint32, little endian), and the magic. What describes the file is
 * at its end, so that it is written in one pass without knowing how many pictures will turn out usable.
 */
const MAGIC = Buffer.from('ISODIMG1', 'latin1');
const TAIL_BYTES = 4 + MAGIC.length;
const MAX_DESCRIPTION_BYTES = 256 * 1024 * 1024;

const descriptionSchema = z.strictObject({
  name: z.string(),
  count: z.int().min(1),
  height: z.int().min(1),
  width: z.int().min(1),
  channels: z.union([z.literal(1), z.literal(3), z.literal(4)]),
  labelled: z.boolean(),
  skipped: z.array(z.strictObject({ source: z.string(), reason: z.string() })),
  fingerprint: z.string().regex(/^[0-9a-f]{64}$/),
});

export type SetDescription = z.infer<typeof descriptionSchema>;
type Geometry = Pick<SetDescription, 'name' | 'height' | 'width' | 'channels'>;

/** Writes a set while its pictures are made. @throws {DatasetError} when no picture is usable; no file is left then. */
export async function writeCacheFile(
  path: string,
  geometry: Geometry,
  pictures: AsyncIterable<PreparedPicture | SkippedPicture>,
): Promise<void> {
  await writeFileAtomic(path, cacheFileBytes(geometry, pictures));
}

/** The bytes of a cache file, in pieces. */
export async function* cacheFileBytes(
  geometry: Geometry,
  pictures: AsyncIterable<PreparedPicture | SkippedPicture>,
): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256').update(`${geometry.height}x${geometry.width}x${geometry.channels}\n`);
  const labels = new LabelNumbers();
  const skipped: SkippedPicture[] = [];
  let count = 0;
  for await (const picture of pictures) {
    if ('reason' in picture) {
      skipped.push({ source: picture.source, reason: picture.reason });
      continue;
    }
    count++;
    labels.add(picture.label);
    hash.update(picture.pixels);
    yield picture.pixels;
  }
  if (count === 0) {
    const first = skipped[0];
    throw new DatasetError(
      first
        ? `no picture of ${geometry.name} can be used; the first of ${skipped.length}, ${first.source}: ${first.reason}`
        : `${geometry.name} has no picture`,
    );
  }
  const numbers = labels.numbers();
  if (numbers) {
    const bytes = Buffer.alloc(numbers.length * 4);
    numbers.forEach((value, i) => {
      bytes.writeInt32LE(value, i * 4);
    });
    hash.update(bytes);
    yield bytes;
  }
  const description: SetDescription = {
    ...geometry,
    count,
    labelled: numbers !== undefined,
    skipped,
    fingerprint: hash.digest('hex'),
  };
  const json = Buffer.from(JSON.stringify(description));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(json.length);
  yield Buffer.concat([json, length, MAGIC]);
}

/**
 * Opens a cache file: into memory when its pixels are at most `maxMemoryBytes`, else they stay in the file.
 * undefined when there is no such file or it is damaged: then it has to be written (again).
 */
export async function openCacheFile(path: string, maxMemoryBytes: number): Promise<ImageSet | undefined> {
  const handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)).catch(() => undefined);
  if (!handle) return undefined;
  try {
    const { size } = await handle.stat();
    const read = async (begin: number, target: Uint8Array): Promise<boolean> => {
      for (let done = 0; done < target.length; ) {
        const length = Math.min(target.length - done, 1 << 26);
        const { bytesRead } = await handle.read(target, done, length, begin + done);
        if (bytesRead === 0) return false;
        done += bytesRead;
      }
      return true;
    };
    const tail = Buffer.alloc(TAIL_BYTES);
    if (size < TAIL_BYTES || !(await read(size - TAIL_BYTES, tail)) || !tail.subarray(4).equals(MAGIC))
      return undefined;
    const jsonBytes = tail.readUInt32LE(0);
    const jsonBegin = size - TAIL_BYTES - jsonBytes;
    if (jsonBytes > MAX_DESCRIPTION_BYTES || jsonBegin < 0) return undefined;
    const json = Buffer.alloc(jsonBytes);
    if (!(await read(jsonBegin, json))) return undefined;
    const description = parseDescription(json);
    if (!description) return undefined;
    const pixelBytes = description.count * description.height * description.width * description.channels;
    const labelBytes = description.labelled ? 4 * description.count : 0;
    if (pixelBytes + labelBytes !== jsonBegin) return undefined;
    const labelData = Buffer.alloc(labelBytes);
    if (!(await read(pixelBytes, labelData))) return undefined;
    const labels = description.labelled
      ? Int32Array.from({ length: description.count }, (_, i) => labelData.readInt32LE(4 * i))
      : undefined;
    if (pixelBytes > maxMemoryBytes) return setInFile(description, labels, path);
    const pixels = new Uint8Array(pixelBytes);
    return (await read(0, pixels)) ? setInMemory(description, labels, pixels) : undefined;
  } finally {
    await handle.close();
  }
}

/** A set from the pieces of {@link cacheFileBytes} without a file. */
export function setFromCacheBytes(bytes: Uint8Array): ImageSet {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const jsonEnd = buffer.length - TAIL_BYTES;
  const description = parseDescription(buffer.subarray(jsonEnd - buffer.readUInt32LE(jsonEnd), jsonEnd));
  if (!description) throw new DatasetError('the pictures in memory have no description');
  const pixelBytes = description.count * description.height * description.width * description.channels;
  const labels = description.labelled
    ? Int32Array.from({ length: description.count }, (_, i) => buffer.readInt32LE(pixelBytes + 4 * i))
    : undefined;
  return setInMemory(description, labels, bytes.subarray(0, pixelBytes));
}

function parseDescription(json: Buffer): SetDescription | undefined {
  try {
    return descriptionSchema.parse(JSON.parse(json.toString('utf8')));
  } catch {
    return undefined;
  }
}

function setInMemory(
  description: SetDescription,
  labels: Int32Array | undefined,
  pixels: Uint8Array,
): ImageSet {
  const { labelled: _, ...fields } = description;
  const size = fields.height * fields.width * fields.channels;
  return {
    ...fields,
    labels,
    pixels(index) {
      requireIndex(index, fields.count);
      return pixels.subarray(index * size, (index + 1) * size);
    },
  };
}

function setInFile(description: SetDescription, labels: Int32Array | undefined, path: string): ImageSet {
  const { labelled: _, ...fields } = description;
  // Open as long as the set is used: the file may be replaced or removed meanwhile.
  const descriptor = openSync(path, 'r');
  const buffer = new Uint8Array(fields.height * fields.width * fields.channels);
  return {
    ...fields,
    labels,
    pixels(index) {
      requireIndex(index, fields.count);
      for (let done = 0; done < buffer.length; ) {
        const read = readSync(descriptor, buffer, done, buffer.length - done, index * buffer.length + done);
        if (read === 0)
          throw new DatasetError(`${path} became shorter while it was used: load the pictures again`);
        done += read;
      }
      return buffer;
    },
  };
}

function requireIndex(index: number, count: number): void {
  if (!Number.isInteger(index) || index < 0 || index >= count)
    throw new InvalidArgumentError(`there is no picture ${index}: the set has ${count}, from 0`);
}
