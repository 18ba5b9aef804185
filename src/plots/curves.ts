import type { Mark, Spec } from 'vega';
import { requireArray, requireObject } from '../arguments.ts';
import { InvalidArgumentError } from '../errors.ts';
import { linesBy, PAPER_LOOK, type PlotLook, plotFrame, renderSvg } from './render.ts';

/** One curve. */
export interface CurveSeries {
  /** What the legend calls it. */
  readonly name: string;
  /** Finite numbers, at least one; above 0 where the x axis is logarithmic. */
  readonly x: ArrayLike<number>;
  /** As many finite numbers; above 0 where the y axis is logarithmic. */
  readonly y: ArrayLike<number>;
}

/** Curves with their title and labels. */
export interface CurvePlot {
  /** At least one curve; the eighth has the colour of the first again. */
  readonly series: readonly CurveSeries[];
  /** The line above the plot. */
  readonly title: string;
  /** Label of the x axis. */
  readonly x_label: string;
  /** Label of the y axis. */
  readonly y_label: string;
  /** Whether the x axis is logarithmic; default false. */
  readonly log_x?: boolean;
  /** Whether the y axis is logarithmic; default false. */
  readonly log_y?: boolean;
}

/**
 * Curves over a common x axis as SVG, with a legend.
 *
 * @throws {InvalidArgumentError} when there is no series, or one is empty, ragged, not finite, or not positive on a
 * logarithmic axis.
 */
export async function curvePlot(plot: CurvePlot): Promise<string> {
  requireObject('the argument of curvePlot', plot);
  return curveSvg(plot, PAPER_LOOK);
}

/** `curvePlot` in other colours and sizes. A single curve has no legend at the top: the title names it. */
export async function curveSvg(plot: CurvePlot, look: PlotLook): Promise<string> {
  const { series, title, x_label, y_label, log_x = false, log_y = false } = plot;
  requireArray('series', series);
  if (series.length === 0) throw new InvalidArgumentError(`the plot '${title}' has no series`);
  for (const one of series) checkSeries(one, log_x, log_y);
  // A line needs two points.
  const dots = series.filter(({ x }) => x.length === 1);
  return renderSvg({
    ...plotFrame(title, look),
    data: [
      {
        name: 'points',
        values: series.flatMap(({ name, x, y }) => Array.from(x, (value, i) => ({ name, x: value, y: y[i] }))),
      },
      { name: 'dots', values: dots.map(({ name, x, y }) => ({ name, x: x[0], y: y[0] })) },
    ],
    scales: [
      {
        name: 'x',
        type: log_x ? 'log' : 'linear',
        domain: { data: 'points', field: 'x' },
        range: 'width',
        zero: false,
        nice: false,
      },
      {
        name: 'y',
        type: log_y ? 'log' : 'linear',
        domain: { data: 'points', field: 'y' },
        range: 'height',
        zero: false,
        nice: true,
      },
      { name: 'series', type: 'ordinal', domain: series.map(({ name }) => name), range: [...look.palette] },
    ],
    axes: [
      { scale: 'x', orient: 'bottom', title: x_label, tickCount: 6 },
      { scale: 'y', orient: 'left', title: y_label, tickCount: 6, grid: true, gridColor: look.grid },
    ],
    legends:
      look.legend === 'top' && series.length === 1
        ? []
        : [
            {
              stroke: 'series',
              symbolType: 'stroke',
              orient: look.legend,
              // Vega's own default cuts a name off at 160 pixels.
              labelLimit: 0,
              ...(look.legend === 'top' ? topLegend(series) : {}),
            },
          ],
    marks: [linesBy('name', { width: 1.8 }), ...(dots.length > 0 ? [dotMark] : [])],
  } satisfies Spec);
}

const dotMark = {
  type: 'symbol',
  from: { data: 'dots' },
  encode: {
    enter: {
      x: { scale: 'x', field: 'x' },
      y: { scale: 'y', field: 'y' },
      fill: { scale: 'series', field: 'name' },
      size: { value: 50 },
    },
  },
} satisfies Mark;

/** Characters of all names that fit beside each other over a plot. */
const LONGEST_LEGEND = 30;

/** Long names stand below each other: the plot would become wider, and smaller on its page. */
function topLegend(series: readonly CurveSeries[]) {
  const characters = series.reduce((sum, { name }) => sum + name.length, 0);
  const direction = characters > LONGEST_LEGEND ? ('vertical' as const) : ('horizontal' as const);
  return { direction, offset: 2, padding: 0 };
}

function checkSeries({ name, x, y }: CurveSeries, positiveX: boolean, positiveY: boolean): void {
  if (x.length === 0 || x.length !== y.length) {
    throw new InvalidArgumentError(
      `the series '${name}' has ${x.length} x and ${y.length} y values: as many of both are needed, and at least one`,
    );
  }
  for (let i = 0; i < x.length; i++) {
    const [place, value] = [x[i] as number, y[i] as number];
    const isDrawn = (one: number, positive: boolean) => Number.isFinite(one) && (!positive || one > 0);
    if (isDrawn(place, positiveX) && isDrawn(value, positiveY)) continue;
    throw new InvalidArgumentError(
      `the series '${name}' holds (${place}, ${value}) at ${i}, which cannot be drawn${positiveX || positiveY ? ' on a logarithmic axis' : ''}`,
    );
  }
}
