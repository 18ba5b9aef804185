import sharp, { type Sharp } from 'sharp';
import type { Interpolation, PictureFormat } from './image-set.ts';
import { pictureFormatOf } from './picture-format.ts';
import type { EncodedPicture, PlainPicture } from './picture-source.ts';

/** Pixels of the largest picture that is decoded: a small file can claim any size (a decompression bomb). */
export const MAX_PICTURE_PIXELS = 100_000_000;

const KERNELS: Record<Interpolation, 'linear' | 'cubic' | 'lanczos3'> = {
  bilinear: 'linear',
  bicubic: 'cubic',
  lanczos: 'lanczos3',
};

/**
 * One picture as HWC bytes of `format`: turned as its EXIF orientation says, transparency on white (unless 4 channels
 * are kept), first frame of an animation, shorter side resized with antialiasing, centre cropped.
 * sharp decodes and resizes in libuv's threads; only the conversion to grey of the small result runs on the JS thread.
 *
 * @throws an error that says why the bytes cannot be decoded.
 */
export async function decodePicture(
  picture: EncodedPicture | PlainPicture,
  format: PictureFormat,
): Promise<Uint8Array> {
  if ('pixels' in picture) {
    if (picture.height === format.height && picture.width === format.width)
      return convertChannels(picture.pixels, picture.channels, format.channels);
    const { height, width, channels } = picture;
    return resized(sharp(picture.pixels, { raw: { height, width, channels } }), format);
  }
  if (pictureFormatOf(picture.encoded) === undefined)
    throw new Error('not a PNG, JPEG, WebP, GIF, TIFF or AVIF picture');
  const decoder = sharp(picture.encoded, {
    limitInputPixels: MAX_PICTURE_PIXELS,
    failOn: 'error',
    autoOrient: true,
  });
  return resized(decoder, format);
}

async function resized(decoder: Sharp, format: PictureFormat): Promise<Uint8Array> {
  const opaque = format.channels === 4 ? decoder.ensureAlpha() : decoder.flatten({ background: '#fff' });
  const { data, info } = await opaque
    .resize(format.width, format.height, {
      fit: format.centerCrop ? 'cover' : 'fill',
      position: 'centre',
      kernel: KERNELS[format.interpolation],
      // Shrinking while a JPEG is decoded is faster, but a box filter: not the kernel that was asked for.
      fastShrinkOnLoad: false,
    })
    .toColourspace('srgb')
    .raw()
    .toBuffer({ resolveWithObject: true });
  return convertChannels(data, info.channels, format.channels);
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
