import sharp from 'sharp';

/** Images as bytes, [count, height, width, channels]. */
export interface ImageBytes {
  readonly data: Uint8Array;
  readonly count: number;
  readonly height: number;
  readonly width: number;
  readonly channels: 1 | 2 | 3 | 4;
}

/** Samples in [-1, 1], [count, channels, height, width], as bytes: clipped, and rounded as diffusers does. */
export function toImageBytes(
  samples: Float32Array,
  [channels = 1, height = 1, width = 1]: readonly number[],
): ImageBytes {
  const pixels = height * width;
  const count = samples.length / (channels * pixels);
  const data = new Uint8Array(samples.length);
  for (let i = 0; i < count; i++)
    for (let c = 0; c < channels; c++)
      for (let p = 0; p < pixels; p++) {
        const value = samples[(i * channels + c) * pixels + p] as number;
        const unit = Math.min(Math.max(value / 2 + 0.5, 0), 1);
        data[(i * pixels + p) * channels + c] = Math.round(unit * 255);
      }
  return { data, count, height, width, channels: channels as ImageBytes['channels'] };
}

/** One image, [height, width, channels], as a PNG file. */
export function encodePng(
  pixels: Uint8Array,
  { height, width, channels }: Pick<ImageBytes, 'height' | 'width' | 'channels'>,
): Promise<Buffer> {
  return sharp(pixels, { raw: { height, width, channels } })
    .toColourspace(channels === 1 ? 'b-w' : 'srgb')
    .png()
    .toBuffer();
}
