import type { Config, Mark, Spec } from 'vega';
import { svgToPng as drawnPng } from '#platform/image-codec';
import { requireText } from '../arguments.ts';
import { writeFileAtomic } from '../files/atomic.ts';

/** Okabe & Ito's palette, which people with any kind of colour vision can tell apart. */
export const PALETTE = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000'] as const;

/** Colours and measures of a plot. */
export interface PlotLook {
  /** Of the plot without its axes, in pixels. */
  readonly width: number;
  readonly height: number;
  readonly background: string;
  readonly grid: string;
  /** Of the series, in their order. */
  readonly palette: readonly string[];
  readonly legend: 'right' | 'top';
  /** Vega's defaults where others are wanted. */
  readonly config?: Config;
}

/** On white, for files of their own. */
export const PAPER_LOOK: PlotLook = {
  width: 520,
  height: 320,
  background: 'white',
  grid: '#eeeeee',
  palette: PALETTE,
  legend: 'right',
};

/** For the HTML pages (src/pages): the colours are those of the page, in the light and in the dark. */
export const PAGE_LOOK: PlotLook = {
  width: 300,
  height: 170,
  background: 'transparent',
  grid: 'var(--line)',
  palette: PALETTE.map((_, i) => `var(--series-${i + 1})`),
  legend: 'top',
  config: {
    title: { color: 'currentColor', anchor: 'start', offset: 6 },
    axis: {
      labelColor: 'currentColor',
      titleColor: 'currentColor',
      titleFontWeight: 'normal',
      domainColor: 'var(--line)',
      tickColor: 'var(--line)',
    },
    legend: { labelColor: 'currentColor' },
  },
};

/** What every plot with one pair of axes begins with. */
export function plotFrame(title: string, look: PlotLook) {
  return {
    $schema: 'https://vega.github.io/schema/vega/v6.json',
    width: look.width,
    height: look.height,
    padding: 8,
    background: look.background,
    title: { text: title, frame: 'group', fontSize: 15, font: 'sans-serif' },
    ...(look.config ? { config: look.config } : {}),
  } satisfies Spec;
}

/**
 * A line for each value of a field of the data 'points', in the colour of the scale 'series'.
 *
 * @param stroke of the lines beside their colour.
 */
export function linesBy(field: string, stroke: { readonly width: number; readonly opacity?: number }): Mark {
  return {
    type: 'group',
    from: { facet: { name: 'one', data: 'points', groupby: field } },
    marks: [
      {
        type: 'line',
        from: { data: 'one' },
        encode: {
          enter: {
            x: { scale: 'x', field: 'x' },
            y: { scale: 'y', field: 'y' },
            stroke: { scale: 'series', field },
            strokeWidth: { value: stroke.width },
            ...(stroke.opacity === undefined ? {} : { strokeOpacity: { value: stroke.opacity } }),
          },
        },
      },
    ],
  };
}

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
export async function svgToPng(svg: string): Promise<Uint8Array> {
  requireText('the SVG', svg);
  return drawnPng(svg);
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
