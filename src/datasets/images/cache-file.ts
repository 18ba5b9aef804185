import { openForReading } from '#platform/fs';
import { createHash } from '#platform/hash';
import { DatasetError } from '../../errors.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import { bytesOfLatin1 } from '../../files/bytes.ts';
import { startsWith } from '../../files/known-files.ts';
import { type RegularFile, withRegularFile } from '../../files/regular-file.ts';
import { joinedBytes } from '../../platform/bytes.ts';
import * as z from '../../zod.ts';
import { centerOf } from './augment.ts';
import type { PreparedImage } from './decode.ts';
import {
  fingerprintHead,
  type ImageSet,
  int32Bytes,
  nothingUsable,
  requireIndex,
  type SizedPixels,
  type SkippedImage,
  UNLABELLED,
} from './image-set.ts';

/*
 * The cache file holds, one after another: the pixels of all images (count x height x width x channels bytes; in a set
 * that is cropped at random, each image in its own size), in such a set height and width of each image (int32, little
 * endian), the labels where there are any (int32, little endian), a JSON description, its length (uint32, little endian),
 * and the magic. The description comes last because the number of usable images is known only then: the file is written
 * in one pass.
 */
const MAGIC = bytesOfLatin1('ISODIMG1');
const TAIL_BYTES = 4 + MAGIC.length;
const MAX_DESCRIPTION_BYTES = 500 * 1024 * 1024;

const descriptionSchema = z.strictObject({
  name: z.string(),
  hubId: z.optional(z.string()),
  count: z.int().check(z.gte(1)),
  height: z.int().check(z.gte(1)),
  width: z.int().check(z.gte(1)),
  channels: z.union([z.literal(1), z.literal(3), z.literal(4)]),
  labelled: z.boolean(),
  classNames: z.optional(z.array(z.string())),
  randomCrop: z.boolean(),
  skipped: z.array(z.strictObject({ source: z.string(), reason: z.string() })),
  fingerprint: z.string().check(z.regex(/^[0-9a-f]{64}$/)),
});

type SetDescription = z.infer<typeof descriptionSchema>;
/** `classNames` are those that the source knows; a set of named classes gets the names that its images have. */
type Geometry = Pick<SetDescription, 'name' | 'hubId' | 'height' | 'width' | 'channels' | 'randomCrop' | 'classNames'>;

/** Writes a set while its images are made. @throws {DatasetError} when no image is usable; no file is left then. */
export async function writeCacheFile(
  path: string,
  geometry: Geometry,
  images: AsyncIterable<PreparedImage | SkippedImage>,
): Promise<void> {
  await writeFileAtomic(path, inLargePieces(cacheFileBytes(geometry, images)));
}

/** Bytes written at a time: for each piece the thread waits for another. */
const PIECE_BYTES = 2 ** 20;

async function* inLargePieces(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let waiting: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of pieces) {
    waiting.push(piece);
    bytes += piece.length;
    if (bytes < PIECE_BYTES) continue;
    yield joinedBytes(waiting);
    waiting = [];
    bytes = 0;
  }
  yield joinedBytes(waiting);
}

/** The bytes of a cache file, in pieces. */
export async function* cacheFileBytes(
  geometry: Geometry,
  images: AsyncIterable<PreparedImage | SkippedImage>,
): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256').update(fingerprintHead(geometry));
  const labels: (number | string | undefined)[] = [];
  const skipped: SkippedImage[] = [];
  const sizes: number[] = [];
  let count = 0;
  for await (const image of images) {
    if ('reason' in image) {
      skipped.push({ source: image.source, reason: image.reason });
      continue;
    }
    count++;
    labels.push(image.label);
    if (geometry.randomCrop) sizes.push(image.height, image.width);
    hash.update(image.pixels);
    yield image.pixels;
  }
  if (count === 0) throw nothingUsable({ name: geometry.name, skipped });
  const { numbers, classNames } = numberedLabels(labels, geometry.classNames);
  for (const words of [sizes, numbers ?? []]) {
    const bytes = int32Bytes(words);
    hash.update(bytes);
    yield bytes;
  }
  const description: SetDescription = {
    ...geometry,
    count,
    labelled: numbers !== undefined,
    classNames,
    skipped,
    fingerprint: hash.digest('hex'),
  };
  const json = new TextEncoder().encode(JSON.stringify(description));
  yield joinedBytes([json, int32Bytes([json.length]), MAGIC]);
}

interface NumberedLabels {
  /** One an image, -1 for one without a class. */
  readonly numbers?: Int32Array | undefined;
  readonly classNames?: string[] | undefined;
}

/**
 * The class numbers of the images of a set. Names are numbered as `known` lists them, or in the order of their code
 * units, as torchvision's `ImageFolder` numbers them; a number among names is a name too. A single name tells nothing
 * apart: such a set has no labels, nor has one in which no image has a class.
 */
function numberedLabels(
  labels: readonly (number | string | undefined)[],
  known: readonly string[] | undefined,
): NumberedLabels {
  const isClass = (label: number | string | undefined) => label !== undefined && label !== UNLABELLED;
  if (!labels.some(isClass)) return {};
  if (labels.every((label) => typeof label !== 'string'))
    return { numbers: Int32Array.from(labels, (label) => label ?? UNLABELLED), classNames: known?.slice() };
  const found = new Set(labels.filter(isClass).map(String));
  const classNames = known && [...found].every((name) => known.includes(name)) ? [...known] : [...found].sort();
  if (classNames.length < 2) return {};
  const numberOf = new Map<number | string | undefined, number>(classNames.map((name, i) => [name, i]));
  const number = (label: number | string | undefined) =>
    isClass(label) ? (numberOf.get(String(label)) ?? UNLABELLED) : UNLABELLED;
  return { numbers: Int32Array.from(labels, number), classNames };
}

/**
 * Opens a cache file: into memory when its pixels are at most `maxMemoryBytes`, else they stay in the file.
 * Undefined when the file is missing or damaged, and has to be written (again).
 */
export async function openCacheFile(path: string, maxMemoryBytes: number): Promise<ImageSet | undefined> {
  try {
    return await withRegularFile(path, DatasetError, async (file) => {
      const parts = await setParts(path, file);
      if (parts.pixelBytes > maxMemoryBytes) return imageSet(parts, bytesOfFile(path));
      const pixels = await file.read(0, parts.pixelBytes);
      return imageSet(parts, (begin, length) => pixels.subarray(begin, begin + length));
    });
  } catch (error) {
    if (error instanceof DatasetError) return undefined;
    throw error;
  }
}

/** A set from the pieces of {@link cacheFileBytes} without a file. */
export async function setFromCacheBytes(bytes: Uint8Array): Promise<ImageSet> {
  const read = async (begin: number, end: number) => new Uint8Array(bytes.subarray(begin, end));
  const parts = await setParts('the images in memory', { size: bytes.length, read });
  return imageSet(parts, (begin, length) => bytes.subarray(begin, begin + length));
}

interface SetParts {
  readonly description: SetDescription;
  readonly labels: Int32Array | undefined;
  /** Where each image begins, in a set that is cropped at random. */
  readonly places: readonly { begin: number; height: number; width: number }[] | undefined;
  readonly pixelBytes: number;
}

/** What describes the pixels of a file. @throws {DatasetError} when it is not a whole file that was written as above. */
async function setParts(where: string, file: Pick<RegularFile, 'size' | 'read'>): Promise<SetParts> {
  const read = async (begin: number, end: number) => {
    if (begin < 0) throw new DatasetError(`${where}: the file is damaged`);
    return new Uint8Array((await file.read(begin, end)).buffer);
  };
  const jsonEnd = file.size - TAIL_BYTES;
  const tail = await read(jsonEnd, file.size);
  const jsonBytes = new DataView(tail.buffer).getUint32(0, true);
  if (!startsWith(tail, [...MAGIC], 4) || jsonBytes > MAX_DESCRIPTION_BYTES)
    throw new DatasetError(`${where} is not a file of images, or damaged`);
  const description = parseDescription(await read(jsonEnd - jsonBytes, jsonEnd), where);
  const { count, height, width, channels, randomCrop, labelled } = description;
  const tableBytes = 4 * count * ((randomCrop ? 2 : 0) + (labelled ? 1 : 0));
  const pixelBytes = jsonEnd - jsonBytes - tableBytes;
  const tables = new DataView((await read(pixelBytes, jsonEnd - jsonBytes)).buffer);
  const labelsBegin = randomCrop ? 8 * count : 0;
  const labels = labelled
    ? Int32Array.from({ length: count }, (_, i) => tables.getInt32(labelsBegin + 4 * i, true))
    : undefined;
  let end = 0;
  const places = Array.from({ length: randomCrop ? count : 0 }, (_, i) => {
    const size = { height: tables.getInt32(8 * i, true), width: tables.getInt32(8 * i + 4, true) };
    const begin = end;
    // An image that is smaller than the set's makes the file a damaged one.
    end += size.height < height || size.width < width ? Number.NaN : size.height * size.width * channels;
    return { begin, ...size };
  });
  if (pixelBytes !== (randomCrop ? end : count * height * width * channels))
    throw new DatasetError(`${where} is damaged: it has ${pixelBytes} bytes of pixels`);
  return { description, labels, places: randomCrop ? places : undefined, pixelBytes };
}

function parseDescription(json: Uint8Array, where: string): SetDescription {
  try {
    return descriptionSchema.parse(JSON.parse(new TextDecoder().decode(json)));
  } catch (cause) {
    throw new DatasetError(`${where} has no description of its images`, { cause });
  }
}

/** @param bytesAt the bytes from `begin` on, valid until the next call. */
function imageSet(
  { description, labels, places }: SetParts,
  bytesAt: (begin: number, length: number) => Uint8Array,
): ImageSet {
  const { labelled: _, randomCrop: __, ...fields } = description;
  const { count, height, width, channels } = fields;
  const size = height * width * channels;
  if (!places)
    return {
      ...fields,
      labels,
      pixels(index) {
        requireIndex(index, count);
        return bytesAt(index * size, size);
      },
    };
  const uncropped = (index: number): SizedPixels => {
    requireIndex(index, count);
    const place = places[index] as (typeof places)[number];
    const pixels = bytesAt(place.begin, place.height * place.width * channels);
    return { pixels, height: place.height, width: place.width };
  };
  return { ...fields, labels, uncropped, pixels: (index) => centerOf(uncropped(index), fields) };
}

function bytesOfFile(path: string): (begin: number, length: number) => Uint8Array {
  // Open as long as the set is used: the file may be replaced or removed meanwhile.
  const readInto = openForReading(path);
  let buffer = new Uint8Array(0);
  return (begin, length) => {
    if (buffer.length < length) buffer = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const read = readInto(buffer, done, length - done, begin + done);
      if (read === 0) throw new DatasetError(`${path} became shorter while it was used: load the images again`);
      done += read;
    }
    return buffer.subarray(0, length);
  };
}
