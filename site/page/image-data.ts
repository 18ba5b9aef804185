import type { ImageData8 } from '../messages.ts';

export const SIDE = 8;
const WHITE = 16;
const FEWEST = 16;
const MOST = 5000;

/** The 1,797 handwritten digits that come with the package. */
export async function digits(): Promise<ImageData8> {
  const response = await fetch(new URL('./digits.csv.gz', import.meta.url));
  if (!response.body) throw new Error('The digits could not be loaded: load the page again.');
  const text = await new Response(response.body.pipeThrough(new DecompressionStream('gzip'))).text();
  const rows = text.trim().split('\n');
  const pixels = Uint8Array.from(
    rows.flatMap((row) =>
      row
        .split(',')
        .slice(0, SIDE * SIDE)
        .map((value) => (Number(value) * 255) / WHITE),
    ),
  );
  return { name: 'digits', pixels, side: SIDE, channels: 1 };
}

/** The user's images, their middle square made small, in colour. @returns also what was left out, and why. */
export async function ownImages(files: readonly File[]): Promise<{ images: ImageData8; left: readonly string[] }> {
  const { loadImages } = await import('../../src/datasets/images/load-images.ts');
  const set = await loadImages(files, {
    resolution: SIDE,
    channels: 3,
    max_images: MOST,
    // They are shown on the page.
    on_warning: () => undefined,
  });
  if (set.count < FEWEST)
    throw new Error(
      `${set.count} of ${files.length} files are images that this browser reads, but at least ${FEWEST} are needed.`,
    );
  const size = 3 * SIDE * SIDE;
  const pixels = new Uint8Array(size * set.count);
  for (let i = 0; i < set.count; i++) pixels.set(set.pixels(i), i * size);
  const left = set.skipped.map(({ source, reason }) => `${source}: ${reason}`);
  return { images: { name: 'Your own images', pixels, side: SIDE, channels: 3 }, left };
}
