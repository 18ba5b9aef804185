import sharp, { type Sharp } from 'sharp';
import type { ImageFormat, Interpolation, SizedPixels } from './image-set.ts';
import { imageFormatOf } from './sources/image-format.ts';
import type { EncodedImage, PlainImage } from './sources/image-source.ts';

/** Pixels of the largest image that is decoded: a small file can claim any size (a decompression bomb). */
export const MAX_IMAGE_PIXELS = 100_000_000;

/** An image that is cropped at random is kept up to so many times the set's height and width, around its centre. */
const MAX_EXTENT = 4;

const KERNELS: Record<Interpolation, 'linear' | 'cubic' | 'lanczos3'> = {
  bilinear: 'linear',
  bicubic: 'cubic',
  lanczos: 'lanczos3',
};

/**
 * One image as HWC bytes of `format`: turned as its EXIF orientation says, transparency on white (unless 4 channels
 * are kept), first frame of an animation, shorter side resized with antialiasing, centre cropped (or kept whole for a
 * random crop, up to four times the size).
 * sharp decodes and resizes in libuv's threads; only the conversion to grey of the small result runs on the JS thread.
 *
 * @throws an error that says why the bytes cannot be decoded.
 */
export async function decodeImage(
  image: EncodedImage | PlainImage,
  format: ImageFormat,
): Promise<SizedPixels> {
  if ('pixels' in image) {
    if (image.height === format.height && image.width === format.width)
      return {
        pixels: convertChannels(image.pixels, image.channels, format.channels),
        height: image.height,
        width: image.width,
      };
    const { height, width, channels } = image;
    return resized(sharp(image.pixels, { raw: { height, width, channels } }), format);
  }
  if (imageFormatOf(image.encoded) === undefined)
    throw new Error('not a PNG, JPEG, WebP, GIF, TIFF or AVIF image');
  const decoder = sharp(image.encoded, {
    limitInputPixels: MAX_IMAGE_PIXELS,
    failOn: 'error',
    autoOrient: true,
  });
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
