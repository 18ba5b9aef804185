import sharp, { type OverlayOptions } from 'sharp';
import { InvalidArgumentError } from '../errors.ts';
import { writeFileAtomic } from '../files/atomic.ts';
import { type GridImages, type ImageGridOptions, imageGrid } from './image-grid.ts';

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
export async function imagePanels(
  panels: readonly ImagePanel[],
  options: ImageGridOptions = {},
): Promise<Buffer> {
  if (panels.length === 0) throw new InvalidArgumentError('there are no panels of images');
  const layers: OverlayOptions[] = [];
  let left = SPACE;
  let height = 0;
  for (const { title, images } of panels) {
    const { data, info } = await sharp(await imageGrid(images, options)).toBuffer({
      resolveWithObject: true,
    });
    layers.push(
      { input: titleSvg(title, info.width), left, top: 0 },
      { input: data, left, top: TITLE_HEIGHT },
    );
    left += info.width + SPACE;
    height = Math.max(height, info.height);
  }
  const canvas = { width: left, height: TITLE_HEIGHT + height + SPACE, channels: 3 as const };
  return sharp({ create: { ...canvas, background: '#ffffff' } })
    .composite(layers)
    .png()
    .toBuffer();
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
function titleSvg(title: string, width: number): Buffer {
  const size = Math.max(6, Math.min(16, (1.7 * width) / Math.max(title.length, 1)));
  const text = title.replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`);
  return Buffer.from(
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${TITLE_HEIGHT}"><text x="50%" y="22" font-family="sans-serif" font-size="${size}" text-anchor="middle" fill="#222222">${text}</text></svg>`,
  );
}
