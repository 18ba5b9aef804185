import sharp from 'sharp';
import { InvalidArgumentError } from '../errors.ts';
import { writeFileAtomic } from '../files/atomic.ts';

/** Images of one size, such as `generate({ output_type: 'uint8' })` gives. */
export interface GridImages {
  /** Bytes, [count, height, width, channels]. */
  readonly data: Uint8Array;
  /** Images, at least 1. */
  readonly count: number;
  /** Of every image, in pixels. */
  readonly height: number;
  /** Of every image, in pixels. */
  readonly width: number;
  /** 1 grey, 2 grey with alpha, 3 RGB, 4 RGBA. */
  readonly channels: 1 | 2 | 3 | 4;
}

/** How images are laid out. */
export interface ImageGridOptions {
  /** Images in a row, at least 1; default the square root of their number, rounded up. */
  readonly columns?: number | undefined;
  /** Side in pixels of the square that every pixel becomes, at least 1; default 1. */
  readonly scale?: number | undefined;
  /** Pixels between images and around them, at least 0; default 2. They are not scaled. */
  readonly gap?: number | undefined;
}

/**
 * Lays images side by side on white, row by row.
 *
 * @returns a PNG file.
 * @throws {InvalidArgumentError} when there is no image, an option is not a whole number, or the data is of another size.
 * @example
 * const images = await generate({ batch_size: 64, output_type: 'uint8' });
 * await writeImageGrid('samples.png', images, { scale: 4 });
 */
export async function imageGrid(images: GridImages, options: ImageGridOptions = {}): Promise<Buffer> {
  const { count, height, width, channels } = images;
  const { columns = Math.ceil(Math.sqrt(count)), scale = 1, gap = 2 } = options;
  if (count < 1 || images.data.length !== count * height * width * channels)
    throw new InvalidArgumentError(
      `${images.data.length} bytes are not ${count} images of ${height}x${width}x${channels}`,
    );
  if (
    ![columns, scale].every((value) => Number.isInteger(value) && value >= 1) ||
    !Number.isInteger(gap) ||
    gap < 0
  )
    throw new InvalidArgumentError(
      `columns ${columns} and scale ${scale} must be whole numbers from 1, gap ${gap} from 0`,
    );
  const size = height * width * channels;
  const cells = await Promise.all(
    Array.from({ length: count }, async (_, i) => ({
      input: await sharp(images.data.subarray(i * size, (i + 1) * size), { raw: { height, width, channels } })
        .resize(width * scale, height * scale, { kernel: 'nearest' })
        .png()
        .toBuffer(),
      left: gap + (i % columns) * (width * scale + gap),
      top: gap + Math.floor(i / columns) * (height * scale + gap),
    })),
  );
  const rows = Math.ceil(count / columns);
  return sharp({
    create: {
      width: gap + columns * (width * scale + gap),
      height: gap + rows * (height * scale + gap),
      channels: 3,
      background: '#ffffff',
    },
  })
    .composite(cells)
    .png()
    .toBuffer();
}

/** Writes `imageGrid` to a file, atomically. */
export async function writeImageGrid(
  file: string,
  images: GridImages,
  options?: ImageGridOptions,
): Promise<void> {
  await writeFileAtomic(file, await imageGrid(images, options));
}
