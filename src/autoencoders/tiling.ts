import { InvalidArgumentError } from '../errors.ts';
import { type Fields, parseOptions } from '../options.ts';
import * as z from '../zod.ts';
import type { Autoencoder, ImageTensor } from './autoencoder.ts';

/** How images and latents are cut into tiles; the names are diffusers'. */
export interface TilingOptions {
  /**
   * Side of a tile of an image in pixels, a multiple of the autoencoder's `downsampling`. Default: the smaller side of the
   * images that it was made for.
   */
  readonly tile_sample_min_size?: number | undefined;
  /** Part of a tile that the next one overlaps, 0 to below 1; rounded down to whole latents. Default 0.25. */
  readonly tile_overlap_factor?: number | undefined;
}

const tilingSchema = z.strictObject({
  tile_sample_min_size: z.optional(z.int().check(z.gte(1))),
  tile_overlap_factor: z._default(z.number().check(z.gte(0), z.lt(1)), 0.25),
} satisfies Fields<TilingOptions>);

/** Tiles in latents: their side, and how far the next one begins. In pixels both are `downsampling` times as large. */
export interface Tiling {
  readonly side: number;
  readonly step: number;
}

/** @throws {InvalidArgumentError} when an option is out of range, or a tile is no whole number of latents. */
export function parseTiling(
  { config, downsampling, sampleSize }: Autoencoder,
  options: TilingOptions | boolean | undefined,
): Tiling | undefined {
  if (options === undefined || options === false) return undefined;
  const { tile_sample_min_size = Math.min(...sampleSize), tile_overlap_factor } = parseOptions(
    tilingSchema,
    options === true ? {} : options,
    'options of tiling',
  );
  const side = tile_sample_min_size / downsampling;
  if (!Number.isInteger(side))
    throw new InvalidArgumentError(
      `tile_sample_min_size ${tile_sample_min_size} must be a multiple of ${downsampling}: the ${config._class_name} makes images so many times smaller`,
    );
  return { side, step: Math.max(1, side - Math.floor(side * tile_overlap_factor)) };
}

/**
 * Runs a half of an autoencoder on overlapping tiles, one after another, and joins the results. Where two of them overlap,
 * the result goes over from one to the other linearly, as diffusers' `tiled_encode` and `tiled_decode` blend them.
 *
 * @param side of a tile of `whole`. @param step from one tile to the next.
 * @param run the half on one tile; its result is larger or smaller by the same factor for all tiles.
 */
export async function throughTiles(
  whole: ImageTensor,
  { side, step }: Tiling,
  run: (tile: ImageTensor) => Promise<ImageTensor>,
): Promise<ImageTensor> {
  const [, , height, width] = whole.shape;
  let joined: { tensor: ImageTensor; scale: number } | undefined;
  let above: ImageTensor[] = [];
  for (let top = 0; top < height; top += step) {
    const row: ImageTensor[] = [];
    for (let left = 0; left < width; left += step) {
      const given = cut(whole, top, left, side);
      const tile = await run(given);
      joined ??= emptyLike(whole, tile, tile.shape[2] / given.shape[2]);
      const { tensor, scale } = joined;
      const overlap = Math.round((side - step) * scale);
      // A tile that was blended is what the next ones are blended with.
      const [before, beside] = [above[row.length], row.at(-1)];
      if (before) blend(before, tile, 2, overlap);
      if (beside) blend(beside, tile, 3, overlap);
      row.push(tile);
      paste(tensor, tile, Math.round(top * scale), Math.round(left * scale), Math.round(step * scale));
    }
    above = row;
  }
  return joined?.tensor ?? whole;
}

function emptyLike({ shape: [count, , height, width] }: ImageTensor, tile: ImageTensor, scale: number) {
  const shape = [count, tile.shape[1], Math.round(height * scale), Math.round(width * scale)] as const;
  return { tensor: { data: new Float32Array(shape.reduce((product, dim) => product * dim, 1)), shape }, scale };
}

/** The square of at most `side` whose upper left corner is at (top, left). */
function cut({ data, shape: [count, channels, height, width] }: ImageTensor, top: number, left: number, side: number) {
  const shape = [count, channels, Math.min(side, height - top), Math.min(side, width - left)] as const;
  const [, , rows, columns] = shape;
  const cutOut = new Float32Array(count * channels * rows * columns);
  for (let map = 0; map < count * channels; map++)
    for (let y = 0; y < rows; y++) {
      const start = (map * height + top + y) * width + left;
      cutOut.set(data.subarray(start, start + columns), (map * rows + y) * columns);
    }
  return { data: cutOut, shape };
}

/** Goes over from the end of `before` to `tile`, in the tile, along axis 2 (rows) or 3 (columns). */
function blend(before: ImageTensor, tile: ImageTensor, axis: 2 | 3, overlap: number): void {
  const extent = Math.min(before.shape[axis], tile.shape[axis], overlap);
  const [count, channels, rows, columns] = tile.shape;
  const [, , rowsBefore, columnsBefore] = before.shape;
  const [height, width] = axis === 2 ? [extent, columns] : [rows, extent];
  const [down, right] = axis === 2 ? [rowsBefore - extent, 0] : [0, columnsBefore - extent];
  for (let map = 0; map < count * channels; map++)
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        const part = (axis === 2 ? y : x) / extent;
        const at = (map * rows + y) * columns + x;
        const from = before.data[(map * rowsBefore + down + y) * columnsBefore + right + x] ?? 0;
        tile.data[at] = from * (1 - part) + (tile.data[at] ?? 0) * part;
      }
}

/** Copies the upper left square of at most `side` to (top, left). */
function paste(whole: ImageTensor, tile: ImageTensor, top: number, left: number, side: number): void {
  const [count, channels, height, width] = whole.shape;
  const [, , rows, columns] = tile.shape;
  const [tall, wide] = [Math.min(side, rows, height - top), Math.min(side, columns, width - left)];
  for (let map = 0; map < count * channels; map++)
    for (let y = 0; y < tall; y++) {
      const start = (map * rows + y) * columns;
      whole.data.set(tile.data.subarray(start, start + wide), (map * height + top + y) * width + left);
    }
}
