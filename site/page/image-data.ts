import type { ImageData8 } from '../messages.ts';

export const SIDE = 8;
const WHITE = 16;
const FEWEST = 16;
const MOST = 5000;
/** A file beyond it is no picture for 8 by 8 pixels. */
const MAX_FILE_BYTES = 50 * 2 ** 20;

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

/** The user's images, their middle square made small, in colour. */
export async function ownImages(files: readonly File[]): Promise<{ images: ImageData8; left: readonly string[] }> {
  const canvas = new OffscreenCanvas(SIDE, SIDE);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  if (!context) throw new Error('This browser cannot draw on a canvas.');
  const made: Uint8Array[] = [];
  const left: string[] = [];
  for (const file of files.slice(0, MOST)) {
    try {
      if (file.size > MAX_FILE_BYTES) throw new Error('too large');
      const whole = await createImageBitmap(file);
      const edge = Math.min(whole.width, whole.height);
      context.clearRect(0, 0, SIDE, SIDE);
      context.imageSmoothingQuality = 'high';
      context.drawImage(whole, (whole.width - edge) / 2, (whole.height - edge) / 2, edge, edge, 0, 0, SIDE, SIDE);
      whole.close();
      const { data } = context.getImageData(0, 0, SIDE, SIDE);
      made.push(Uint8Array.from({ length: 3 * SIDE * SIDE }, (_, i) => data[4 * Math.floor(i / 3) + (i % 3)] ?? 0));
    } catch {
      left.push(file.name);
    }
  }
  if (made.length < FEWEST)
    throw new Error(
      `${made.length} of ${files.length} files are images that this browser reads, but at least ${FEWEST} are needed.`,
    );
  const pixels = new Uint8Array(3 * SIDE * SIDE * made.length);
  made.forEach((image, i) => {
    pixels.set(image, i * image.length);
  });
  return { images: { name: 'Your own images', pixels, side: SIDE, channels: 3 }, left };
}
