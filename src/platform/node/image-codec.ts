import type { Sharp } from 'sharp';
import { declaredSize } from '../declared-size.ts';

/* Image files to pixels and back, by sharp, which takes a tenth of a second to load. */

let loading: Promise<typeof import('sharp').default> | undefined;

/** Loads it once: each `import()` goes through the loaders that a program has registered, also for what is loaded. */
function loadSharp(): Promise<typeof import('sharp').default> {
  loading ??= import('sharp').then((module) => module.default);
  return loading;
}

/** Pixels of 8 bits, [height, width, channels]. */
export interface RawPixels {
  readonly pixels: Uint8Array;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
}

/** What decodes: where it changes, the same file may give other pixels. */
export async function codecName(): Promise<string> {
  const { versions } = await loadSharp();
  return `libvips ${versions.vips}`;
}

/** An image that can be looked at before it is decoded. */
export interface ImageDecoder {
  /** How large the image is. It costs less than `metadata`. @throws an error when the file is damaged. */
  size(): Promise<Pick<RawPixels, 'height' | 'width'>>;
  /** @throws an error when the file is damaged. */
  metadata(): Promise<Pick<RawPixels, 'height' | 'width' | 'channels'>>;
  /** In sRGB, on white unless `keepsAlpha`. @throws an error when the file is damaged. */
  decode(keepsAlpha: boolean): Promise<RawPixels>;
}

/**
 * @param image the bytes of an image file of a known format, or pixels.
 * @param maxPixels an image of more fails, whatever its header declares. Default: no limit; the caller bounds them.
 */
export function imageDecoder(image: Uint8Array | RawPixels, maxPixels?: number): ImageDecoder {
  let opening: Promise<Sharp> | undefined;
  const open = () => {
    opening ??= sharpOf(image, maxPixels);
    return opening;
  };
  return {
    size: async () => (image instanceof Uint8Array && declaredSize(image)) || (await open()).metadata(),
    metadata: async () => {
      const { height, width, channels } = await (await open()).metadata();
      return { height, width, channels };
    },
    decode: async (keepsAlpha) => {
      const decoder = await open();
      const opaque = keepsAlpha ? decoder.ensureAlpha() : decoder.flatten({ background: '#fff' });
      const { data, info } = await opaque.toColourspace('srgb').raw().toBuffer({ resolveWithObject: true });
      return { pixels: data, height: info.height, width: info.width, channels: info.channels };
    },
  };
}

async function sharpOf(image: Uint8Array | RawPixels, limitInputPixels: number | false = false): Promise<Sharp> {
  const sharp = await loadSharp();
  if (image instanceof Uint8Array) return sharp(image, { limitInputPixels, failOn: 'error', autoOrient: true });
  const { pixels, height, width, channels } = image;
  return sharp(pixels, { raw: { height, width, channels: channels as 1 | 2 | 3 | 4 } });
}

/** Pixels of 1 to 4 channels as a PNG file. */
export async function encodePng({ pixels, height, width, channels }: RawPixels): Promise<Uint8Array> {
  const sharp = await loadSharp();
  return sharp(pixels, { raw: { height, width, channels: channels as 1 | 2 | 3 | 4 } })
    .toColourspace(channels === 1 ? 'b-w' : 'srgb')
    .png()
    .toBuffer();
}

/** Pixels as a PNG file of another size: smoothly where they become fewer, else each as a rectangle. */
export async function scaledPng(
  { pixels, height, width, channels }: RawPixels,
  size: { readonly height: number; readonly width: number },
): Promise<Uint8Array> {
  const sharp = await loadSharp();
  return sharp(pixels, { raw: { height, width, channels: channels as 1 | 2 | 3 | 4 } })
    .resize({ ...size, kernel: size.width < width ? 'lanczos3' : 'nearest' })
    .png()
    .toBuffer();
}

/** Something that {@link layeredPng} draws, with its corner at `left` and `top`. */
export interface Layer {
  readonly left: number;
  readonly top: number;
  /** Pixels, each drawn as a square of `scale` pixels; a PNG file; or an SVG. */
  readonly content: (RawPixels & { readonly scale: number }) | Uint8Array | string;
}

/** Layers on white, as a PNG file. */
export async function layeredPng(
  { height, width }: { readonly height: number; readonly width: number },
  layers: readonly Layer[],
): Promise<Uint8Array> {
  const drawn = layers.map(async ({ content, left, top }) => ({ input: await layerBytes(content), left, top }));
  const sharp = await loadSharp();
  return sharp({ create: { height, width, channels: 3, background: '#ffffff' } })
    .composite(await Promise.all(drawn))
    .png()
    .toBuffer();
}

async function layerBytes(content: Layer['content']): Promise<Buffer> {
  if (typeof content === 'string' || content instanceof Uint8Array) return Buffer.from(content as string);
  const { pixels, height, width, channels, scale } = content;
  const sharp = await loadSharp();
  return sharp(pixels, { raw: { height, width, channels: channels as 1 | 2 | 3 | 4 } })
    .resize(width * scale, height * scale, { kernel: 'nearest' })
    .png()
    .toBuffer();
}

/** Draws an SVG as PNG at twice its size, on white. */
export async function svgToPng(svg: string): Promise<Buffer> {
  const sharp = await loadSharp();
  return sharp(Buffer.from(svg), { density: 144 }).flatten({ background: '#ffffff' }).png().toBuffer();
}
