import { resizeImage, resizeToFloats } from '../../datasets/images/resize.ts';
import type { FeatureImage } from './feature-extractor.ts';

/** How images are resized: see `OnnxFeaturesOptions`. */
export type ResizeRule = 'half-pixel' | 'asymmetric' | 'clean' | 'bicubic';

export interface ImageTensorOptions {
  readonly height: number;
  readonly width: number;
  readonly layout: 'NCHW' | 'NHWC';
  /** Of each of the three channels, in units where white is 1. */
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
  /** See `OnnxFeaturesOptions`. */
  readonly resize?: ResizeRule | undefined;
  readonly center_crop?: boolean | undefined;
}

/** RGB images as one float32 tensor, (pixel / 255 - mean) / std. Grey images are repeated in all channels. */
export function imageTensor(images: readonly FeatureImage[], options: ImageTensorOptions): Float32Array {
  const { height, width } = options;
  const tensor = new Float32Array(images.length * 3 * height * width);
  images.forEach((image, n) => {
    const start = n * 3 * height * width;
    const target = tensor.subarray(start, start + 3 * height * width);
    const { resize = 'half-pixel', center_crop } = options;
    const square = center_crop ? centerSquare(image) : image;
    if (square.height === height && square.width === width) writeAsItIs(square, target, options);
    else if (resize === 'clean' || resize === 'bicubic') writeFiltered(square, resize, target, options);
    else writeInterpolated(square, resize, target, options);
  });
  return tensor;
}

/** The largest square in the middle, as cmmd cuts it: above and left of it are as many pixels as below and right, or one fewer. */
function centerSquare(image: FeatureImage): FeatureImage {
  const { data, height, width, channels } = image;
  if (height === width) return image;
  const side = Math.min(height, width);
  const [top, left] = [Math.floor((height - side) / 2), Math.floor((width - side) / 2)];
  const square = new Uint8Array(side * side * channels);
  for (let y = 0; y < side; y++) {
    const begin = ((top + y) * width + left) * channels;
    square.set(data.subarray(begin, begin + side * channels), y * side * channels);
  }
  return { data: square, height: side, width: side, channels };
}

/** An image that has the size already, which every rule leaves as it is. */
function writeAsItIs({ data, channels }: FeatureImage, target: Float32Array, options: ImageTensorOptions): void {
  const { height, width, layout, mean, std } = options;
  const [pixelStride, channelStride] = layout === 'NCHW' ? [1, height * width] : [3, 1];
  const values = new Float32Array(256);
  for (let c = 0; c < 3; c++) {
    for (let byte = 0; byte < 256; byte++) values[byte] = (byte / 255 - (mean[c] as number)) / (std[c] as number);
    let from = channels === 1 ? 0 : c;
    let to = c * channelStride;
    for (let i = 0; i < height * width; i++, from += channels, to += pixelStride)
      target[to] = values[data[from] as number] as number;
  }
}

/** By Pillow's bicubic filter. */
function writeFiltered(
  image: FeatureImage,
  resize: 'clean' | 'bicubic',
  target: Float32Array,
  { height, width, layout, mean, std }: ImageTensorOptions,
): void {
  const { data, channels } = image;
  const shape = { height: image.height, width: image.width, channels: channels === 1 ? 1 : 3 } as const;
  const window = { height, width, top: 0, left: 0, keptHeight: height, keptWidth: width };
  const pixels =
    resize === 'clean'
      ? resizeToFloats(data, shape, { height, width }, 'bicubic')
      : resizeImage(data, shape, window, 'bicubic');
  const [pixelStride, channelStride] = layout === 'NCHW' ? [1, height * width] : [3, 1];
  for (let c = 0; c < 3; c++) {
    const source = channels === 1 ? 0 : c;
    for (let i = 0; i < height * width; i++) {
      const value = Math.min(255, Math.max(0, pixels[i * channels + source] as number));
      target[c * channelStride + i * pixelStride] = (value / 255 - (mean[c] as number)) / (std[c] as number);
    }
  }
}

/** Bilinearly, without antialiasing. */
function writeInterpolated(
  image: FeatureImage,
  resize: 'half-pixel' | 'asymmetric',
  target: Float32Array,
  { height, width, layout, mean, std }: ImageTensorOptions,
): void {
  const { data, channels } = image;
  const [pixelStride, channelStride] = layout === 'NCHW' ? [1, height * width] : [3, 1];
  const rows = samplePositions(image.height, height, resize, image.width * channels);
  const columns = samplePositions(image.width, width, resize, channels);
  for (let c = 0; c < 3; c++) {
    const source = channels === 1 ? 0 : c;
    const channelMean = mean[c] as number;
    const channelStd = std[c] as number;
    for (let y = 0; y < height; y++) {
      const top = (rows.before[y] as number) + source;
      const bottom = (rows.after[y] as number) + source;
      const down = rows.share[y] as number;
      let at = c * channelStride + y * width * pixelStride;
      for (let x = 0; x < width; x++, at += pixelStride) {
        const left = columns.before[x] as number;
        const right = columns.after[x] as number;
        const across = columns.share[x] as number;
        const upperLeft = data[top + left] as number;
        const lowerLeft = data[bottom + left] as number;
        const upper = upperLeft + ((data[top + right] as number) - upperLeft) * across;
        const lower = lowerLeft + ((data[bottom + right] as number) - lowerLeft) * across;
        target[at] = ((upper + (lower - upper) * down) / 255 - channelMean) / channelStd;
      }
    }
  }
}

/**
 * For each target pixel of an axis, the offsets of the source pixels before and after it, `stride` apart, and how far
 * it is on its way from one to the other. Before the first pixel it stays on it, and after the last one too.
 */
function samplePositions(sourceSize: number, targetSize: number, resize: 'half-pixel' | 'asymmetric', stride: number) {
  const centre = resize === 'half-pixel' ? 0.5 : 0;
  const before = new Int32Array(targetSize);
  const after = new Int32Array(targetSize);
  const share = new Float64Array(targetSize);
  for (let i = 0; i < targetSize; i++) {
    const position = Math.max(0, ((i + centre) * sourceSize) / targetSize - centre);
    const index = Math.floor(position);
    before[i] = index * stride;
    after[i] = Math.min(index + 1, sourceSize - 1) * stride;
    share[i] = position - index;
  }
  return { before, after, share };
}
