import { defaultCacheDir } from '#files/download';
import { createHash } from '#platform/hash';
import { join } from '#platform/path';
import { requireFunction, requireObject } from '../arguments.ts';
import { convertChannels, decodingVersion } from '../datasets/images/decode.ts';
import { type ImageFormat, type ImageSet, reportSkipped, type SkippedImage } from '../datasets/images/image-set.ts';
import { openSource } from '../datasets/images/load-images.ts';
import { InvalidArgumentError } from '../errors.ts';
import { batchesOfShare, type ImageBytes } from '../pipelines/image-output.ts';
import { RandomStream, STREAM } from '../random/random-stream.ts';
import { decodedBatches, decodedImages, inspect, oneAhead } from './decoded-images.ts';
import type { FeatureImage } from './extractors/feature-extractor.ts';

/** Images of one size to take features of, in batches. Every pass gives the same images in the same order. */
export interface EvaluationImages {
  readonly name: string;
  readonly count: number;
  /** What was left out of a stored set, and why. */
  readonly skipped: readonly SkippedImage[];
  readonly height: number;
  readonly width: number;
  readonly channels: 1 | 3;
  /** Hex digest, equal for equal images; undefined for images that are drawn from a model. */
  readonly fingerprint: string | undefined;
  /** @param share the batches of one of several shares, as of `batchesOfShare`; default: all. */
  batches(size: number, signal?: AbortSignal, share?: Share): AsyncIterable<FeatureImage[]>;
  /** The number of each image in the whole set, as `loadImages` counts; undefined for all images of a set. */
  readonly indices?: Uint32Array | undefined;
  /** Some images by their place among these, to be looked at; undefined where they would have to be drawn again. */
  readonly pick?: ((numbers: ReadonlySet<number>, signal?: AbortSignal) => Promise<PickedImages>) | undefined;
}

/** The i-th, from 1, of n consecutive parts. */
export type Share = readonly [index: number, shares: number];

/** Images by their places. */
export type PickedImages = ReadonlyMap<number, PickedImage>;

/** One image of an evaluation, to be looked at. */
export interface PickedImage {
  readonly image: FeatureImage;
  /** Its path, archive member or row, where it is known. */
  readonly source: string | undefined;
}

/** Which images of a set to take, as ascending numbers. @throws {InvalidArgumentError} when it has too few. */
type Selection = (name: string, count: number) => Uint32Array;

/** All images, or a random part of `wanted`. */
export function randomPart(wanted: number | undefined, seed: number): Selection {
  return (name, count) => {
    if (wanted !== undefined && wanted > count)
      throw new InvalidArgumentError(`${name} has ${count} images, fewer than the ${wanted} that were asked for`);
    const order = new RandomStream(seed, STREAM.metrics, 1).permutation(count);
    return order.subarray(0, wanted ?? count).sort();
  };
}

/** Share `index` (from 1) of `shares` consecutive ones of nearly equal size. */
export function consecutiveShare(index: number, shares: number): Selection {
  return (name, count) => {
    const start = Math.floor(((index - 1) * count) / shares);
    const end = Math.floor((index * count) / shares);
    if (end > start) return Uint32Array.from({ length: end - start }, (_, i) => start + i);
    throw new InvalidArgumentError(`${name} has ${count} images, too few for ${shares} shares`);
  };
}

/** The selected images of a loaded set. */
function imagesOfSet(set: ImageSet, select: Selection): EvaluationImages {
  const { name, height, width } = set;
  const indices = select(name, set.count);
  // A copy: a set that lies in a file has one buffer for all its images.
  const imageAt = (index: number) => featureImage(new Uint8Array(set.pixels(index)), height, width, set.channels);
  const part = indices.length < set.count ? `${set.fingerprint} ${indices.join(' ')}` : set.fingerprint;
  return {
    name,
    count: indices.length,
    skipped: set.skipped,
    height,
    width,
    channels: set.channels === 1 ? 1 : 3,
    fingerprint: createHash('sha256').update(part).digest('hex'),
    async *batches(size, _signal, share) {
      const [begin, end] = batchesOfShare(indices.length, size, share);
      for (let start = begin; start < end; start += size)
        yield Array.from(indices.subarray(start, Math.min(end, start + size)), imageAt);
    },
    indices,
    async pick(numbers) {
      const picked = new Map<number, PickedImage>();
      for (const number of numbers)
        picked.set(number, { image: imageAt(indices[number] as number), source: undefined });
      return picked;
    },
  };
}

/** Images as bytes, one by one. */
export function featureImages({ data, count, height, width, channels }: ImageBytes): FeatureImage[] {
  const size = height * width * channels;
  return Array.from({ length: count }, (_, i) =>
    featureImage(data.subarray(i * size, (i + 1) * size), height, width, channels),
  );
}

/** The image, converted from grey to RGB if `channels` is 3. */
export function withChannels(image: FeatureImage, channels: 1 | 3): FeatureImage {
  if (image.channels === channels) return image;
  return { ...image, data: convertChannels(image.data, image.channels, channels), channels };
}

/** Extractors take grey or RGB images. Transparent ones are laid on white, like those read from files. */
function featureImage(data: Uint8Array, height: number, width: number, channels: number): FeatureImage {
  if (channels !== 4) return { data, height, width, channels };
  const rgb = new Uint8Array(height * width * 3);
  for (let p = 0; p < height * width; p++) {
    const alpha = data[4 * p + 3] as number;
    for (let c = 0; c < 3; c++) rgb[3 * p + c] = Math.round(((data[4 * p + c] as number) * alpha) / 255 + 255 - alpha);
  }
  return { data: rgb, height, width, channels: 3 };
}

/** The part of a set that is read, as for `loadImages`; configuration and revision are those of a data set of the Hub. */
export interface SetPart {
  readonly split: string | undefined;
  readonly config?: string | undefined;
  readonly revision?: string | undefined;
}

interface OpenOptions extends SetPart {
  /** [height, width] that every image is resized to (shorter side, antialiased, centre kept); default: as they are. */
  readonly resolution?: readonly [number, number] | undefined;
  readonly select: Selection;
  /** Folder of downloads. */
  readonly cacheDir?: string | undefined;
  readonly strict: boolean;
  readonly warn: (message: string) => void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The images of a loaded set, or of anything `loadImages` reads. Those are in their own size, and decoded batch after
 * batch: the set is never held as a whole. All are decoded once before the work, to leave out what is damaged and to refuse
 * what cannot be compared.
 *
 * @throws {DatasetError} when no image is usable, or not all with `strict`, or two are of different sizes.
 * @throws {InvalidArgumentError} when the source is unknown or has too few images.
 */
export async function openImages(source: string | ImageSet, options: OpenOptions): Promise<EvaluationImages> {
  if (typeof source !== 'string') {
    requireObject('the images', source);
    requireFunction('pixels of the images', source.pixels);
    if (options.split !== undefined)
      throw new InvalidArgumentError(
        `split is '${options.split}', but '${source.name}' is loaded already: give the split to loadImages`,
      );
    // Who has loaded the set knows what it leaves out.
    reportSkipped(source, options.strict, () => undefined);
    return imagesOfSet(source, options.select);
  }
  const { config, revision } = options;
  const images = await openSource(source, {
    cacheDir: options.cacheDir ?? defaultCacheDir(),
    dataDir: undefined,
    split: options.split,
    labelColumn: undefined,
    hub: { config, revision, cache_dir: options.cacheDir && join(options.cacheDir, 'hub') },
    warn: options.warn,
  });
  const { usable, skipped, height, width, channels } = await inspect(images, options);
  reportSkipped({ name: images.name, skipped }, options.strict, options.warn);
  const indices = options.select(images.name, usable.length);
  const chosen = Array.from(indices, (index) => usable[index]);
  const format: ImageFormat = { height, width, channels, crop: 'center', interpolation: 'bilinear' };
  const hash = createHash('sha256').update(JSON.stringify([format, await decodingVersion()]));
  const places = new Set<number>();
  for (const image of chosen) {
    if (!image) continue;
    hash.update(image.digest);
    places.add(image.place);
  }
  return {
    name: images.name,
    count: places.size,
    skipped,
    height,
    width,
    channels,
    fingerprint: hash.digest('hex'),
    batches: (size, signal, share) => {
      const own = new Set([...places].slice(...batchesOfShare(places.size, size, share)));
      return oneAhead(decodedBatches(images, own, format, size, signal));
    },
    indices,
    async pick(numbers, signal) {
      const wanted = [...numbers].sort((a, b) => a - b);
      const wantedPlaces = new Set(wanted.map((number) => chosen[number]?.place ?? -1));
      const picked = new Map<number, PickedImage>();
      for await (const { source, ...image } of decodedImages(images, wantedPlaces, format, signal)) {
        const number = wanted[picked.size] as number;
        picked.set(number, { image, source });
      }
      return picked;
    },
  };
}
