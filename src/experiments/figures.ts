// Figures of the pages that compare runs.
import { dataUri, html, Markup } from '../pages/page.ts';
import type { Curves } from '../pages/run-page.ts';
import { type CurveSeries, curveSvg } from '../plots/curves.ts';
import { PAGE_LOOK, svgToPng } from '../plots/render.ts';
import { type Axis, type ScatterPanel, scatterSvg } from '../plots/scatter.ts';

/** Points of each kind in a scatter. */
const MAX_POINTS = 1500;
/** Width of the samples of a run, in pixels. */
export const SAMPLES_PIXELS = 240;

/** Generated points over the real ones, as PNG. @param axes default: they span the points. */
export async function scatterPng(
  { real, fake }: Omit<ScatterPanel, 'title'>,
  axes?: readonly Axis[],
): Promise<Uint8Array> {
  const options = { size: SAMPLES_PIXELS, max_points: MAX_POINTS };
  return svgToPng(await scatterSvg([{ real, fake, title: '' }], options, axes));
}

/** The samples of a run, for a `strip`. */
export function samplesFigure(png: Uint8Array, caption: string): Markup {
  return html`<figure><img src="${dataUri('image/png', png)}" alt="samples of ${caption}"><figcaption>${caption}</figcaption></figure>`;
}

/** Curves over the steps in one plot; nothing where no series has a point. */
export async function curveFigure(name: string, series: readonly CurveSeries[]): Promise<Markup | undefined> {
  const drawn = series.filter(({ x }) => x.length > 0);
  if (drawn.length === 0) return undefined;
  const plot = { title: name, x_label: 'step', y_label: name, series: drawn };
  return html`<figure>${new Markup(await curveSvg(plot, { ...PAGE_LOOK, height: 220 }))}</figure>`;
}

/** The mean of a value over runs, at the steps where all of them have one. */
export function meanCurve(runs: readonly Curves[], name: string): { x: number[]; y: number[] } {
  const valueAt = ({ values }: Curves, i: number) => values[name]?.[i] ?? Number.NaN;
  const steps = [...(runs[0]?.step ?? []).entries()];
  const kept = steps.filter(([i, step]) =>
    runs.every((run) => run.step[i] === step && Number.isFinite(valueAt(run, i))),
  );
  return {
    x: kept.map(([, step]) => step),
    y: kept.map(([i]) => runs.reduce((sum, run) => sum + valueAt(run, i), 0) / runs.length),
  };
}
