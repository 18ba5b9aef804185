import sharp from 'sharp';
import type { Spec } from 'vega';
import { writeFileAtomic } from '../files/atomic.ts';
import { requireText } from '../options.ts';

/** Okabe & Ito's palette, which people with any kind of colour vision can tell apart. */
export const PALETTE = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000'] as const;

/** Draws a vega specification as SVG text. */
export async function renderSvg(spec: Spec): Promise<string> {
  // Loaded only here: it takes a third of a second, and most commands plot nothing.
  const { parse, resetSVGDefIds, View } = await import('vega');
  const view = new View(parse(spec), { renderer: 'none' });
  try {
    // Vega numbers its clip paths through the whole process; the same plot should be the same text.
    resetSVGDefIds();
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}

/** Draws an SVG as PNG at twice its size, on white. */
export async function svgToPng(svg: string): Promise<Buffer> {
  requireText('the SVG', svg);
  return sharp(Buffer.from(svg), { density: 144 }).flatten({ background: '#ffffff' }).png().toBuffer();
}

/** Writes `<path>.svg` and `<path>.png`, each atomically, and returns the two paths. */
export async function writePlot(pathWithoutExtension: string, svg: string): Promise<string[]> {
  requireText('the path of the plot', pathWithoutExtension);
  const png = await svgToPng(svg);
  const paths = [`${pathWithoutExtension}.svg`, `${pathWithoutExtension}.png`];
  await writeFileAtomic(`${pathWithoutExtension}.svg`, svg);
  await writeFileAtomic(`${pathWithoutExtension}.png`, png);
  return paths;
}
