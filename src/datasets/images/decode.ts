import sharp from 'sharp';
import { errorText } from '../../errors.ts';
import { centreStart, type ImageShape } from './augment.ts';
import type { ImageFormat, SizedPixels, SkippedImage } from './image-set.ts';
import { resizeImage, type Window } from './resize.ts';
import type { EncodedImage, ImageSource, PlainImage, SourceImage } from './sources/image-source.ts';

/* From the images of a source, encoded or plain, to bytes of one size and number of channels. */

/** Pixels of the largest image that is decoded: a small file can claim any size (a decompression bomb). */
export const MAX_IMAGE_PIXELS = 100_000_000;

/** An image that is cropped at random keeps at most this many times the set's height and width, around its centre. */
const MAX_EXTENT = 4;

/** Part of the keys of caches: changes whenever the same image could yield other bytes. Raise the number with the code. */
export const DECODING = `3, libvips ${sharp.versions.vips}`;

/** First bytes of the formats that are decoded. Others (SVG, PDF) can refer to other files, so they are refused. */
const FORMATS: readonly { name: string; at: number; bytes: readonly number[] }[] = [
  { name: 'PNG', at: 0, bytes: [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a] },
  { name: 'JPEG', at: 0, bytes: [0xff, 0xd8, 0xff] },
  { name: 'GIF', at: 0, bytes: [0x47, 0x49, 0x46, 0x38] },
  { name: 'WebP', at: 8, bytes: [0x57, 0x45, 0x42, 0x50] },
  { name: 'TIFF', at: 0, bytes: [0x49, 0x49, 0x2a, 0x00] },
  { name: 'TIFF', at: 0, bytes: [0x4d, 0x4d, 0x00, 0x2a] },
  { name: 'AVIF', at: 4, bytes: [0x66, 0x74, 0x79, 0x70, 0x61, 0x76, 0x69] },
];

/** The image format that `bytes` begin with, or undefined. */
export function imageFormatOf(bytes: Uint8Array): string | undefined {
  return FORMATS.find(({ at, bytes: magic }) => magic.every((value, i) => bytes[at + i] === value))?.name;
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
  const pending: Promise<PreparedImage | SkippedImage>[] = [];
  for await (const image of source.images()) {
    pending.push(prepareOne(image, format));
    if (pending.length >= workers) yield await (pending.shift() as Promise<PreparedImage>);
  }
  for (const last of pending) yield await last;
}

/** Never rejects: an image that cannot be decoded is skipped. */
async function prepareOne(image: SourceImage, format: ImageFormat): Promise<PreparedImage | SkippedImage> {
  if ('reason' in image) return image;
  try {
    return { source: image.source, label: image.label, ...(await decodeImage(image, format)) };
  } catch (error) {
    return { source: image.source, reason: errorText(error).split('\n', 1)[0] as string };
  }
}

/**
 * One image as HWC bytes of `format`: turned as its EXIF orientation says, transparency on white (unless 4 channels
 * are kept), first frame of an animation, resized and cropped as torchvision's `Resize` and `CenterCrop` do with PIL.
 * sharp decodes in libuv's threads; the rest runs on the JS thread.
 *
 * @throws an error that says why the bytes cannot be decoded.
 */
async function decodeImage(image: EncodedImage | PlainImage, format: ImageFormat): Promise<SizedPixels> {
  const whole = 'pixels' in image ? image : await decoded(image.encoded, format.channels === 4);
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

/** The pixels of a file in sRGB, 8 bits each. */
async function decoded(encoded: Uint8Array, keepsAlpha: boolean): Promise<ImageShape & { pixels: Uint8Array }> {
  if (imageFormatOf(encoded) === undefined) throw new Error('not a PNG, JPEG, WebP, GIF, TIFF or AVIF image');
  const decoder = sharp(encoded, { limitInputPixels: MAX_IMAGE_PIXELS, failOn: 'error', autoOrient: true });
  const opaque = keepsAlpha ? decoder.ensureAlpha() : decoder.flatten({ background: '#fff' });
  const { data, info } = await opaque.toColourspace('srgb').raw().toBuffer({ resolveWithObject: true });
  return { pixels: data, height: info.height, width: info.width, channels: info.channels };
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
