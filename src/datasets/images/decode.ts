import sharp, { type Sharp } from 'sharp';
import { errorText } from '../../errors.ts';
import type { ImageFormat, Interpolation, SizedPixels, SkippedImage } from './image-set.ts';
import type { EncodedImage, ImageSource, PlainImage, SourceImage } from './sources/image-source.ts';

/* From the images of a source, encoded or plain, to bytes of one size and number of channels. */

/** Pixels of the largest image that is decoded: a small file can claim any size (a decompression bomb). */
export const MAX_IMAGE_PIXELS = 100_000_000;

/** An image that is cropped at random keeps at most this many times the set's height and width, around its centre. */
const MAX_EXTENT = 4;

const KERNELS: Record<Interpolation, 'linear' | 'cubic' | 'lanczos3'> = {
  bilinear: 'linear',
  bicubic: 'cubic',
  lanczos: 'lanczos3',
};

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
 * are kept), first frame of an animation, shorter side resized with antialiasing, centre cropped (or kept whole for a
 * random crop, up to four times the size).
 * sharp decodes and resizes in libuv's threads; only the conversion to grey of the small result runs on the JS thread.
 *
 * @throws an error that says why the bytes cannot be decoded.
 */
async function decodeImage(image: EncodedImage | PlainImage, format: ImageFormat): Promise<SizedPixels> {
  if ('pixels' in image) {
    const { pixels, height, width, channels } = image;
    if (height === format.height && width === format.width)
      return { pixels: convertChannels(pixels, channels, format.channels), height, width };
    return resized(sharp(pixels, { raw: { height, width, channels } }), format);
  }
  if (imageFormatOf(image.encoded) === undefined) throw new Error('not a PNG, JPEG, WebP, GIF, TIFF or AVIF image');
  const decoder = sharp(image.encoded, { limitInputPixels: MAX_IMAGE_PIXELS, failOn: 'error', autoOrient: true });
  return resized(decoder, format);
}

async function resized(decoder: Sharp, format: ImageFormat): Promise<SizedPixels> {
  const { height, width } = format.crop === 'random' ? await coveringSize(decoder, format) : format;
  const opaque = format.channels === 4 ? decoder.ensureAlpha() : decoder.flatten({ background: '#fff' });
  const { data, info } = await opaque
    .resize(width, height, {
      fit: format.crop === 'none' ? 'fill' : 'cover',
      position: 'centre',
      kernel: KERNELS[format.interpolation],
      // Shrinking while a JPEG is decoded is faster, but a box filter: not the kernel that was asked for.
      fastShrinkOnLoad: false,
    })
    .toColourspace('srgb')
    .raw()
    .toBuffer({ resolveWithObject: true });
  return { pixels: convertChannels(data, info.channels, format.channels), height, width };
}

/** The size in which an image just covers the format, its sides in proportion. */
async function coveringSize(decoder: Sharp, format: ImageFormat): Promise<{ height: number; width: number }> {
  const { autoOrient } = await decoder.metadata();
  const scale = Math.max(format.height / autoOrient.height, format.width / autoOrient.width);
  const side = (length: number, least: number) =>
    Math.min(Math.max(Math.round(length * scale), least), MAX_EXTENT * least);
  return { height: side(autoOrient.height, format.height), width: side(autoOrient.width, format.width) };
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
