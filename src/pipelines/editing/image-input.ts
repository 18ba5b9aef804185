// Images that are given to a pipeline, as transformers.js takes them, and masks.
import type { RawImage } from '@huggingface/transformers';
import { fileURLToPath } from '#platform/path';
import { inFormat, withDecoded } from '../../datasets/images/decode.ts';
import type { PixelImage } from '../../datasets/images/image-set.ts';
import { MAX_ENCODED_BYTES } from '../../datasets/images/sources/image-source.ts';
import { errorText, InvalidArgumentError } from '../../errors.ts';
import { readWholeFile } from '../../files/regular-file.ts';
import { concatenated, elementCount } from '../../graph/types.ts';
import type { Fields } from '../../options.ts';
import { joinedBytes } from '../../platform/bytes.ts';
import * as z from '../../zod.ts';
import { encodePng } from '../image-output.ts';
import { type Edit, type EditOptions, editShape, readEditSettings } from './edit.ts';

/** An image: a `RawImage`, the path or URL of an image file, or the file itself as a Blob. */
export type ImageInput = RawImage | string | URL | Blob;

/** Options of edited images. */
export interface ImageEditOptions extends EditOptions {
  /**
   * The image to begin from in place of noise, or a list with one for each sample; brought to the model's size as images are
   * for training, with the centre kept. Default none.
   */
  readonly image?: ImageInput | readonly ImageInput[] | undefined;
  /** Where `image` is drawn anew: white there, black where it is kept, and of the size of the image. Default: everywhere. */
  readonly mask_image?: ImageInput | undefined;
}

const WANTED = 'must be a RawImage, the path or URL of an image file, or a Blob';

function isImage(value: unknown): value is ImageInput {
  if (typeof value === 'string') return value !== '';
  return isRawImage(value) || value instanceof URL || value instanceof Blob;
}

function isRawImage(value: unknown): value is RawImage {
  return typeof value === 'object' && value !== null && 'data' in value && 'width' in value && 'channels' in value;
}

const imageInput = z.custom<ImageInput>(isImage, WANTED);
/** One image, or a list of at least one. */
export const imagesInput = z.custom<ImageInput | readonly ImageInput[]>(
  (value) => isImage(value) || (Array.isArray(value) && value.length > 0 && value.every(isImage)),
  `${WANTED}, or a list of them`,
);

/** The types alone. */
export const imageEditShape = {
  ...editShape,
  image: z.optional(imagesInput),
  mask_image: z.optional(imageInput),
} satisfies Fields<ImageEditOptions>;

/**
 * Checks the options of a call for `count` images at once; what is returned reads the images.
 *
 * @throws {InvalidArgumentError} when an option is wrong; when reading, if an image cannot be read or the mask is of another
 * size.
 */
export function readImageEdit(
  options: ImageEditOptions,
  count: number,
  sampleShape: readonly number[],
): ((signal: AbortSignal | undefined) => Promise<Edit>) | undefined {
  const { image, mask_image } = options;
  const settings = readEditSettings(options, {
    samples: ['image', image !== undefined],
    mask: ['mask_image', mask_image !== undefined],
  });
  if (!settings || !image) return undefined;
  const openImages = openersOf(image, sampleShape);
  if (openImages.length !== 1 && openImages.length !== count)
    throw new InvalidArgumentError(
      `image is a list of ${openImages.length}, but ${count} images were asked for: give one image, or one for each`,
    );
  const openMask = mask_image === undefined ? undefined : opener(mask_image, 'mask_image');
  return async (signal) => {
    const images = await Promise.all(openImages.map((open) => open(signal)));
    const samples = concatenated(images.map((each) => toModelUnits(each, sampleShape)));
    const mask = await openMask?.(signal);
    for (const { height, width } of images)
      if (mask && (mask.height !== height || mask.width !== width))
        throw new InvalidArgumentError(
          `mask_image is ${mask.height}x${mask.width}, but the image ${height}x${width} (height x width): they must be of one size`,
        );
    return { ...settings, samples, mask: mask && maskOf(mask, sampleShape) };
  };
}

/**
 * Images in model units, [count, channels, height, width], read later. @throws {InvalidArgumentError} for wrong arguments.
 *
 * @param exact the name of an option that takes images in the model's size alone; reading refuses others. Default: they are
 * brought to it.
 */
export function readImages(
  images: ImageInput | readonly ImageInput[],
  sampleShape: readonly number[],
  exact?: string,
): { count: number; read: (signal: AbortSignal | undefined) => Promise<Float32Array> } {
  const openImages = openersOf(images, sampleShape);
  return {
    count: openImages.length,
    read: async (signal) => {
      const opened = await Promise.all(openImages.map((open) => open(signal)));
      const [, height = 1, width = 1] = sampleShape;
      const other = exact && opened.find((image) => image.height !== height || image.width !== width);
      if (other)
        throw new InvalidArgumentError(
          `${exact} is ${other.height}x${other.width}, but the model takes ${height}x${width} (height x width): bring it to that size`,
        );
      return concatenated(opened.map((each) => toModelUnits(each, sampleShape)));
    },
  };
}

type Opener = (signal: AbortSignal | undefined) => Promise<PixelImage>;

function openersOf(images: ImageInput | readonly ImageInput[], [channels = 1]: readonly number[]): Opener[] {
  if (![1, 3, 4].includes(channels))
    throw new InvalidArgumentError(`the model has ${channels} channels, but an image has 1, 3 or 4`);
  const list: readonly ImageInput[] = isImage(images) ? [images] : images;
  return list.map((image, i) => opener(image, list.length === 1 ? 'the image' : `image ${i}`, channels === 4));
}

/** Takes what can change later now, and the rest when it is called. */
function opener(image: ImageInput, what: string, keepsAlpha = false): Opener {
  const bytes = bytesOf(image, what);
  return async (signal) => {
    signal?.throwIfAborted();
    try {
      return await withDecoded(await bytes(signal), keepsAlpha, (whole) => whole);
    } catch (cause) {
      signal?.throwIfAborted();
      const name = typeof image === 'string' || image instanceof URL ? ` '${String(image).slice(0, 200)}'` : '';
      throw new InvalidArgumentError(`${what}${name} cannot be read: ${errorText(cause)}`, { cause });
    }
  };
}

function bytesOf(image: ImageInput, what: string): (signal: AbortSignal | undefined) => Promise<Uint8Array> {
  if (isRawImage(image)) {
    const { data, height, width, channels } = image;
    if (data.length !== height * width * channels || data.length === 0)
      throw new InvalidArgumentError(
        `${what} is ${height}x${width} with ${channels} channels, but has ${data.length} values`,
      );
    const pixels = Uint8Array.from(data);
    return () => encodePng(pixels, { height, width, channels });
  }
  if (image instanceof Blob) return async () => bounded(new Response(image), what);
  const address = String(image);
  if (address.startsWith('file:'))
    return () => readWholeFile(fileURLToPath(address), MAX_ENCODED_BYTES, InvalidArgumentError);
  if (!/^(https?|data|blob):/.test(address))
    return () => readWholeFile(address, MAX_ENCODED_BYTES, InvalidArgumentError);
  return async (signal) => {
    const response = await fetch(address, { signal: signal ?? null });
    if (!response.ok) throw new Error(`the server answered ${response.status} ${response.statusText}`);
    return bounded(response, what);
  };
}

/** @throws an error when there are more bytes than an image file may have. */
async function bounded({ body }: Response, what: string): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of body ?? []) {
    size += part.length;
    if (size > MAX_ENCODED_BYTES) throw new Error(`${what} has more than the ${MAX_ENCODED_BYTES} bytes that are read`);
    parts.push(part);
  }
  return joinedBytes(parts);
}

function pixelsFor(image: PixelImage, channels: 1 | 3 | 4, [, height = 1, width = 1]: readonly number[]): Uint8Array {
  return inFormat(image, { height, width, channels, crop: 'center', interpolation: 'bilinear' }).pixels;
}

/** [channels, height, width] in [-1, 1]. */
function toModelUnits(image: PixelImage, sampleShape: readonly number[]): Float32Array {
  const channels = (sampleShape[0] ?? 1) as 1 | 3 | 4;
  const bytes = pixelsFor(image, channels, sampleShape);
  const pixels = bytes.length / channels;
  return Float32Array.from(
    bytes,
    (_, i) => (bytes[(i % pixels) * channels + Math.floor(i / pixels)] as number) / 127.5 - 1,
  );
}

/** 1 where the mask is rather white, for every channel. */
function maskOf(mask: PixelImage, sampleShape: readonly number[]): Uint8Array {
  const grey = pixelsFor(mask, 1, sampleShape);
  return Uint8Array.from({ length: elementCount(sampleShape) }, (_, i) => Number((grey[i % grey.length] ?? 0) >= 128));
}
