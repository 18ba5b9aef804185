import { NotInBrowserError } from '../../errors.ts';
import { declaredSize } from '../declared-size.ts';
import type { ImageDecoder, Layer, RawPixels } from '../node/image-codec.ts';

/* Image files to pixels and back, by the browser. */

export type { ImageDecoder, Layer, RawPixels };

/** What decodes: where it changes, the same file may give other pixels. */
export async function codecName(): Promise<string> {
  return 'browser';
}

/**
 * @param image the bytes of an image file of a known format, or pixels.
 * @param maxPixels an image of more fails, whatever its header declares. Default: no limit; the caller bounds them.
 */
export function imageDecoder(image: Uint8Array | RawPixels, maxPixels = Number.POSITIVE_INFINITY): ImageDecoder {
  if (!(image instanceof Uint8Array))
    return { size: async () => image, metadata: async () => image, decode: async (alpha) => withAlpha(image, alpha) };
  const size = async () => declaredSize(image) ?? (await decodedSize(image));
  return {
    size,
    metadata: async () => ({ ...(await size()), channels: 3 }),
    decode: async (keepsAlpha) => {
      const bitmap = await bitmapOf(image);
      const { height, width } = bitmap;
      if (height * width > maxPixels) throw new Error(`it has ${width}x${height} pixels`);
      const context = canvas(height, width, keepsAlpha);
      context.drawImage(bitmap, 0, 0);
      bitmap.close();
      return withAlpha({ pixels: pixelsOf(context), height, width, channels: 4 }, keepsAlpha);
    },
  };
}

async function decodedSize(encoded: Uint8Array): Promise<{ height: number; width: number }> {
  const bitmap = await bitmapOf(encoded);
  const { height, width } = bitmap;
  bitmap.close();
  return { height, width };
}

function bitmapOf(encoded: Uint8Array): Promise<ImageBitmap> {
  return createImageBitmap(new Blob([new Uint8Array(encoded)]));
}

function canvas(height: number, width: number, transparent = false): OffscreenCanvasRenderingContext2D {
  if (typeof OffscreenCanvas === 'undefined')
    throw new NotInBrowserError('images need OffscreenCanvas, which this browser does not have');
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  if (!context) throw new NotInBrowserError(`this browser has no memory for an image of ${width}x${height} pixels`);
  if (!transparent) {
    context.fillStyle = '#fff';
    context.fillRect(0, 0, width, height);
  }
  return context;
}

function pixelsOf(context: OffscreenCanvasRenderingContext2D): Uint8Array {
  const { width, height } = context.canvas;
  return new Uint8Array(context.getImageData(0, 0, width, height).data.buffer);
}

/** RGBA, or RGB with what is transparent on white. */
function withAlpha(image: RawPixels, keepsAlpha: boolean): RawPixels {
  const { pixels, height, width, channels } = image;
  const count = height * width;
  const to = keepsAlpha ? 4 : 3;
  const out = new Uint8Array(count * to);
  for (let i = 0; i < count; i++) {
    const colour = channels >= 3;
    const alpha = channels % 2 === 0 ? (pixels[(i + 1) * channels - 1] as number) : 255;
    for (let c = 0; c < 3; c++) {
      const value = pixels[i * channels + (colour ? c : 0)] as number;
      out[i * to + c] = keepsAlpha ? value : Math.round((value * alpha + 255 * (255 - alpha)) / 255);
    }
    if (keepsAlpha) out[i * to + 3] = alpha;
  }
  return { pixels: out, height, width, channels: to };
}

/** Pixels of 1 to 4 channels as a PNG file. */
export async function encodePng(image: RawPixels): Promise<Uint8Array> {
  return pngOf(contextOf(image));
}

function contextOf(image: RawPixels): OffscreenCanvasRenderingContext2D {
  const { height, width } = image;
  const context = canvas(height, width, true);
  context.putImageData(new ImageData(new Uint8ClampedArray(withAlpha(image, true).pixels), width, height), 0, 0);
  return context;
}

async function pngOf({ canvas }: OffscreenCanvasRenderingContext2D): Promise<Uint8Array> {
  return new Uint8Array(await (await canvas.convertToBlob({ type: 'image/png' })).arrayBuffer());
}

/** Pixels as a PNG file of another size: smoothly where they become fewer, else each as a rectangle. */
export async function scaledPng(
  image: RawPixels,
  { height, width }: { readonly height: number; readonly width: number },
): Promise<Uint8Array> {
  const context = canvas(height, width, true);
  context.imageSmoothingEnabled = width < image.width;
  context.imageSmoothingQuality = 'high';
  context.drawImage(contextOf(image).canvas, 0, 0, width, height);
  return pngOf(context);
}

/** Layers on white, as a PNG file. @throws {NotInBrowserError} for SVG in a worker. */
export async function layeredPng(
  { height, width }: { readonly height: number; readonly width: number },
  layers: readonly Layer[],
): Promise<Uint8Array> {
  const context = canvas(height, width);
  context.imageSmoothingEnabled = false;
  for (const { content, left, top } of layers) {
    if (typeof content === 'string') await withSvg(content, (image) => context.drawImage(image, left, top));
    else if (content instanceof Uint8Array) context.drawImage(await bitmapOf(content), left, top);
    else {
      const { scale } = content;
      context.drawImage(contextOf(content).canvas, left, top, content.width * scale, content.height * scale);
    }
  }
  return pngOf(context);
}

/** Draws an SVG as PNG at twice its size, on white. @throws {NotInBrowserError} in a worker, which cannot draw SVG. */
export async function svgToPng(svg: string): Promise<Uint8Array> {
  return withSvg(svg, (image) => {
    const [height, width] = [2 * image.naturalHeight, 2 * image.naturalWidth];
    const context = canvas(height, width);
    context.drawImage(image, 0, 0, width, height);
    return pngOf(context);
  });
}

async function withSvg<T>(svg: string, use: (image: HTMLImageElement) => T): Promise<T> {
  if (typeof Image === 'undefined')
    throw new NotInBrowserError('SVG can be drawn as PNG on the page itself only, not in a worker');
  const url = URL.createObjectURL(new Blob([svg], { type: 'image/svg+xml' }));
  try {
    const image = new Image();
    image.src = url;
    await image.decode();
    return use(image);
  } finally {
    URL.revokeObjectURL(url);
  }
}
