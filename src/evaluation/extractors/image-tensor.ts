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
  readonly resize?: 'half-pixel' | 'asymmetric' | undefined;
}

/**
 * RGB images as one float32 tensor, (pixel / 255 - mean) / std. Grey images are repeated in all channels. Images of
 * another size are resized bilinearly, without antialiasing.
 */
export function imageTensor(images: readonly FeatureImage[], options: ImageTensorOptions): Float32Array {
  const { height, width } = options;
  const tensor = new Float32Array(images.length * 3 * height * width);
  images.forEach((image, n) => {
    const start = n * 3 * height * width;
    writeResized(image, tensor.subarray(start, start + 3 * height * width), options);
  });
  return tensor;
}

function writeResized(image: FeatureImage, target: Float32Array, options: ImageTensorOptions): void {
  const { height, width, layout, mean, std, resize = 'half-pixel' } = options;
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
function samplePositions(
  sourceSize: number,
  targetSize: number,
  resize: 'half-pixel' | 'asymmetric',
  stride: number,
) {
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
