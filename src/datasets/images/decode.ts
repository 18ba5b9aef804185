import { createHash } from '#platform/hash';
import { codecName, type ImageDecoder, imageDecoder } from '#platform/image-codec';
import { DatasetError, errorText } from '../../errors.ts';
import { readWholeFile } from '../../files/regular-file.ts';
import { centreStart, type ImageShape } from './augment.ts';
import { decodeBmp } from './formats/bmp.ts';
import { imageFormatOf } from './formats/image-formats.ts';
import { decodeNetpbm } from './formats/netpbm.ts';
import type { ImageFormat, PixelImage, SizedPixels, SkippedImage } from './image-set.ts';
import { resizeImage, type Window } from './resize.ts';
import {
  type EncodedImage,
  type ImageFile,
  type ImageSource,
  MAX_ENCODED_BYTES,
  type PlainImage,
  type SourceImage,
} from './sources/image-source.ts';

/* From the images of a source, encoded or plain, to bytes of one size and number of channels. */

/** Pixels of the largest image that is decoded: a small file can claim any size (a decompression bomb). */
const MAX_IMAGE_PIXELS = 100_000_000;

/** Images of more pixels are decoded one after another: the bytes of several would fill the memory. */
const LARGE_PIXELS = 2 ** 24;

/** An image that is cropped at random keeps at most this many times the set's height and width, around its centre. */
const MAX_EXTENT = 4;

/** Part of the keys of caches: changes whenever the same image could yield other bytes. Raise the number with the code. */
export async function decodingVersion(): Promise<string> {
  return `4, ${await codecName()}`;
}

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
  yield* inOrder(source.images(), workers, (image) => prepareOne(image, format));
}

/** What `work`, which never rejects, makes of the items, in their order. At most `workers` are under way at a time. */
export async function* inOrder<In, Out>(
  items: AsyncIterable<In> | Iterable<In>,
  workers: number,
  work: (item: In) => Promise<Out>,
): AsyncGenerator<Out> {
  const pending: Promise<Out>[] = [];
  for await (const item of items) {
    pending.push(work(item));
    const [first] = pending;
    if (pending.length < workers || !first) continue;
    yield await first;
    pending.shift();
  }
  for (const last of pending) yield await last;
}

/** Never rejects: an image that cannot be decoded is skipped. */
async function prepareOne(image: SourceImage, format: ImageFormat): Promise<PreparedImage | SkippedImage> {
  if ('reason' in image) return image;
  try {
    return { source: image.source, label: image.label, ...(await decodeImage(image, format)) };
  } catch (error) {
    return { source: image.source, reason: errorText(error) };
  }
}

/**
 * One image as HWC bytes of `format`: turned as its EXIF orientation says, transparency on white (unless 4 channels
 * are kept), first frame of an animation, resized and cropped as torchvision's `Resize` and `CenterCrop` do with PIL.
 * In Node sharp decodes in libuv's threads; the rest runs on the JS thread.
 *
 * @throws an error that says why the bytes cannot be decoded.
 */
async function decodeImage(image: EncodedImage | ImageFile | PlainImage, format: ImageFormat): Promise<SizedPixels> {
  if ('pixels' in image) return inFormat(image, format);
  return withDecoded(await bytesOf(image), format.channels === 4, (whole) => inFormat(whole, format));
}

const bytesOf = async (image: EncodedImage | ImageFile): Promise<Uint8Array> =>
  'encoded' in image ? image.encoded : readWholeFile(image.path, MAX_ENCODED_BYTES, DatasetError);

/** A decoded image as bytes of `format`, as images are for training. */
export function inFormat(whole: PixelImage, format: ImageFormat): SizedPixels {
  const { height, width } = whole;
  // Grey first, as with PIL, which is also a third of the work.
  const isGrey = format.channels === 1;
  const channels = isGrey ? 1 : whole.channels;
  const source = isGrey ? convertChannels(whole.pixels, whole.channels, 1) : whole.pixels;
  const window = windowOf(whole, format);
  const pixels = resizeImage(source, { height, width, channels }, window, format.interpolation);
  return {
    pixels: convertChannels(pixels, channels, format.channels),
    height: window.keptHeight,
    width: window.keptWidth,
  };
}

/** What is known of an image before it is turned into a format. */
export interface InspectedImage extends ImageShape {
  readonly source: string;
  /** SHA-256 of its bytes. */
  readonly digest: Uint8Array;
}

/** Decodes an image to see whether that succeeds: its pixels can be damaged where its header is not. Never rejects. */
export async function inspectImage(image: SourceImage): Promise<InspectedImage | SkippedImage> {
  if ('reason' in image) return image;
  const { source } = image;
  const digestOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest();
  if ('pixels' in image) {
    const { pixels, height, width, channels } = image;
    return { source, digest: digestOf(pixels), height, width, channels };
  }
  try {
    const encoded = await bytesOf(image);
    const digest = digestOf(encoded);
    return await withDecoded(encoded, false, async ({ height, width }, decoder) => {
      const { channels } = await decoder.metadata();
      return { source, digest, height, width, channels };
    });
  } catch (error) {
    return { source, reason: errorText(error) };
  }
}

/** @param use receives the pixels in sRGB, 8 bits each, and what says more about the file. */
export async function withDecoded<Result>(
  encoded: Uint8Array,
  keepsAlpha: boolean,
  use: (whole: PixelImage, decoder: ImageDecoder) => Result | Promise<Result>,
): Promise<Result> {
  const format = imageFormatOf(encoded);
  const decoder = decoderOf(encoded, format);
  // libvips keeps its messages for all threads together: what it says can be about another image, or be gone.
  const damaged = (cause: unknown) => {
    throw new Error(`the ${format} file is damaged, or of a kind that is not read`, { cause });
  };
  const { height, width } = await decoder.size().catch(damaged);
  const pixels = height * width;
  if (pixels > MAX_IMAGE_PIXELS)
    throw new Error(`${width}x${height} pixels are more than the ${MAX_IMAGE_PIXELS} that are decoded`);
  const work = async () => use(await decoded(decoder, keepsAlpha).catch(damaged), decoder);
  return pixels > LARGE_PIXELS ? inTurn(work) : work();
}

let turn: Promise<unknown> = Promise.resolve();

/** Waits until those that came before have ended. */
function inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
  const result = turn.then(work);
  turn = result.catch(() => undefined);
  return result;
}

async function decoded(decoder: ImageDecoder, keepsAlpha: boolean): Promise<PixelImage> {
  const { pixels, height, width, channels } = await decoder.decode(keepsAlpha);
  if (channels !== 1 && channels !== 3 && channels !== 4) throw new Error(`it has ${channels} channels`);
  return { pixels, height, width, channels };
}

function decoderOf(encoded: Uint8Array, format: ReturnType<typeof imageFormatOf>): ImageDecoder {
  if (format !== 'BMP' && format !== 'Netpbm') return imageDecoder(encoded, MAX_IMAGE_PIXELS);
  return imageDecoder((format === 'BMP' ? decodeBmp : decodeNetpbm)(encoded, MAX_IMAGE_PIXELS));
}

/**
 * How an image is resized, and what is kept of it. One side becomes as long as the format's, the other keeps the
 * proportion, rounded down as torchvision rounds it, but is never shorter than the format's.
 */
function windowOf({ height, width }: Size, format: ImageFormat): Window {
  if (format.crop === 'none') return windowAtCentre(format, format);
  const byHeight = format.height * width >= format.width * height;
  const covering = byHeight
    ? { height: format.height, width: Math.max(format.width, Math.floor((format.height * width) / height)) }
    : { height: Math.max(format.height, Math.floor((format.width * height) / width)), width: format.width };
  if (format.crop === 'center') return windowAtCentre(covering, format);
  return windowAtCentre(covering, {
    height: Math.min(covering.height, MAX_EXTENT * format.height),
    width: Math.min(covering.width, MAX_EXTENT * format.width),
  });
}

type Size = Pick<ImageShape, 'height' | 'width'>;

function windowAtCentre({ height, width }: Size, { height: keptHeight, width: keptWidth }: Size): Window {
  const [top, left] = [centreStart(height, keptHeight), centreStart(width, keptWidth)];
  return { height, width, top, left, keptHeight, keptWidth };
}

/** HWC bytes with another number of channels. Grey is luma of ITU-R BT.601, rounded as PIL's `convert('L')` does. */
export function convertChannels(pixels: Uint8Array, from: number, to: 1 | 3 | 4): Uint8Array {
  if (from === to) return pixels;
  const count = pixels.length / from;
  const out = new Uint8Array(count * to);
  const colour = from >= 3;
  for (let i = 0; i < count; i++) {
    const red = pixels[i * from] as number;
    const green = colour ? (pixels[i * from + 1] as number) : red;
    const blue = colour ? (pixels[i * from + 2] as number) : red;
    if (to === 1) {
      out[i] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
      continue;
    }
    out[i * to] = red;
    out[i * to + 1] = green;
    out[i * to + 2] = blue;
    if (to === 4) out[i * to + 3] = 255;
  }
  return out;
}
