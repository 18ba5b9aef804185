import { imageDecoder, type Layer, layeredPng } from '#platform/image-codec';
import { requireObject, requireText } from '../arguments.ts';
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
  /** 1 grey, 2 grey with alpha, 3 RGB, 4 RGBA; others cannot be drawn. */
  readonly channels: number;
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
export async function imageGrid(images: GridImages, options: ImageGridOptions = {}): Promise<Uint8Array> {
  requireObject('the images', images);
  requireObject('the options of the grid', options);
  const { count, height, width, channels } = images;
  const { columns = Math.ceil(Math.sqrt(count)), scale = 1, gap = 2 } = options;
  if (!isDrawable(channels))
    throw new InvalidArgumentError(`images of ${channels} channels cannot be drawn: it must be 1, 2, 3 or 4`);
  if (count < 1 || images.data.length !== count * height * width * channels)
    throw new InvalidArgumentError(
      `${images.data.length} bytes are not ${count} images of ${height}x${width}x${channels}`,
    );
  if (![columns, scale].every((value) => Number.isInteger(value) && value >= 1) || !Number.isInteger(gap) || gap < 0)
    throw new InvalidArgumentError(
      `columns ${columns} and scale ${scale} must be whole numbers from 1, gap ${gap} from 0`,
    );
  const size = height * width * channels;
  const cells = Array.from({ length: count }, (_, i) => ({
    content: { pixels: images.data.subarray(i * size, (i + 1) * size), height, width, channels, scale },
    left: gap + (i % columns) * (width * scale + gap),
    top: gap + Math.floor(i / columns) * (height * scale + gap),
  }));
  const rows = Math.ceil(count / columns);
  return layeredPng(
    { width: gap + columns * (width * scale + gap), height: gap + rows * (height * scale + gap) },
    cells,
  );
}

function isDrawable(channels: number): channels is 1 | 2 | 3 | 4 {
  return Number.isInteger(channels) && channels >= 1 && channels <= 4;
}

/** Writes `imageGrid` to a file, atomically. */
export async function writeImageGrid(file: string, images: GridImages, options?: ImageGridOptions): Promise<void> {
  requireText('the file of the grid', file);
  await writeFileAtomic(file, await imageGrid(images, options));
}

/** One grid of images with its title. */
export interface ImagePanel {
  /** The line above the grid, for instance 'Iso-Diffusion, λ = 0.05'. */
  readonly title: string;
  /** The images of the grid. */
  readonly images: GridImages;
}

const TITLE_HEIGHT = 34;
const SPACE = 18;

/**
 * Grids side by side on white, each under its title, to compare real images with those of models.
 *
 * @returns a PNG file.
 * @throws {InvalidArgumentError} when there is no panel, or as `imageGrid`.
 * @example
 * await writeImagePanels('compare.png', [{ title: 'real', images: real }, { title: 'DDPM', images: drawn }], { scale: 4 });
 */
export async function imagePanels(panels: readonly ImagePanel[], options: ImageGridOptions = {}): Promise<Uint8Array> {
  if (!Array.isArray(panels) || panels.length === 0) throw new InvalidArgumentError('there are no panels of images');
  for (const panel of panels) requireObject('a panel', panel);
  const layers: Layer[] = [];
  let left = SPACE;
  let height = 0;
  for (const { title, images } of panels) {
    const grid = await imageGrid(images, options);
    const size = await imageDecoder(grid).metadata();
    layers.push({ content: titleSvg(title, size.width), left, top: 0 }, { content: grid, left, top: TITLE_HEIGHT });
    left += size.width + SPACE;
    height = Math.max(height, size.height);
  }
  return layeredPng({ width: left, height: TITLE_HEIGHT + height + SPACE }, layers);
}

/** Writes `imagePanels` to a file, atomically. */
export async function writeImagePanels(
  file: string,
  panels: readonly ImagePanel[],
  options?: ImageGridOptions,
): Promise<void> {
  await writeFileAtomic(file, await imagePanels(panels, options));
}

/** Text that is too long for its panel is made smaller. */
function titleSvg(title: string, width: number): string {
  const size = Math.max(6, Math.min(16, (1.7 * width) / Math.max(title.length, 1)));
  const text = title.replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${TITLE_HEIGHT}"><text x="50%" y="22" font-family="sans-serif" font-size="${size}" text-anchor="middle" fill="#222222">${text}</text></svg>`;
}
