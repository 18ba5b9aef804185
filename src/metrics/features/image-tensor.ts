import type { FeatureImage } from './feature-extractor.ts';

export interface ImageTensorOptions {
  readonly height: number;
  readonly width: number;
  readonly layout: 'NCHW' | 'NHWC';
  /** Of each of the three channels, in units where white is 1. */
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
  /**
   * Where the pixels of the resized image lie in the original. Default `half-pixel`: centres at half integers, as
   * `interpolate(mode='bilinear', align_corners=False)` of PyTorch, by which pytorch-fid resizes. `asymmetric`: pixel i
   * at i times the scale, as `resize_bilinear` of TensorFlow 1, which the original FID code and torch-fidelity follow.
   */
  readonly resize?: 'half-pixel' | 'asymmetric';
}

/**
 * RGB images as one float32 tensor, (pixel / 255 - mean) / std. Grey images are repeated in all channels. Images of
 * another size are resized bilinearly, without antialiasing.
 */
export function imageTensor(images: readonly FeatureImage[], options: ImageTensorOptions): Float32Array {
  const { height, width, layout, mean, std, resize = 'half-pixel' } = options;
  const tensor = new Float32Array(images.length * 3 * height * width);
  const [pixelStride, channelStride] = layout === 'NCHW' ? [1, height * width] : [3, 1];
  images.forEach((image, n) => {
    const rows = sourcePositions(image.height, height, resize);
    const columns = sourcePositions(image.width, width, resize);
    for (let c = 0; c < 3; c++) {
      const start = n * 3 * height * width + c * channelStride;
      const source = image.channels === 1 ? 0 : c;
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          const value = interpolated(image, source, rows[y] as number, columns[x] as number) / 255;
          tensor[start + (y * width + x) * pixelStride] = (value - (mean[c] as number)) / (std[c] as number);
        }
      }
    }
  });
  return tensor;
}

/** Where each target pixel is in the source; before the first centre it stays on it. */
function sourcePositions(
  sourceSize: number,
  targetSize: number,
  resize: 'half-pixel' | 'asymmetric',
): Float64Array {
  const offset = resize === 'half-pixel' ? 0.5 : 0;
  return Float64Array.from({ length: targetSize }, (_, i) =>
    Math.max(0, ((i + offset) * sourceSize) / targetSize - offset),
  );
}

function interpolated(image: FeatureImage, channel: number, y: number, x: number): number {
  const { data, height, width, channels } = image;
  const top = Math.floor(y);
  const left = Math.floor(x);
  const bottom = Math.min(top + 1, height - 1);
  const right = Math.min(left + 1, width - 1);
  const at = (row: number, column: number) => data[(row * width + column) * channels + channel] as number;
  const upper = at(top, left) + (at(top, right) - at(top, left)) * (x - left);
  const lower = at(bottom, left) + (at(bottom, right) - at(bottom, left)) * (x - left);
  return upper + (lower - upper) * (y - top);
}
