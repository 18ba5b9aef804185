import type { Mark, Spec } from 'vega';
import { InvalidArgumentError } from '../errors.ts';
import { linesBy, PAPER_LOOK, type PlotLook, plotFrame, renderSvg } from './render.ts';

/** A mean with the ends of its interval, which may be the mean itself. */
export interface PlaneValue {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

/** A point of a plane of two measured values. */
export interface PlanePoint {
  /** Stands beside the point, such as 'λ = 0.1'. */
  readonly label: string;
  /** Points of a series have one colour, and a line joins them in the given order. */
  readonly series: string;
  readonly x: PlaneValue;
  readonly y: PlaneValue;
}

export interface PlanePlot {
  /** At least one, finite. */
  readonly points: readonly PlanePoint[];
  readonly title: string;
  readonly x_label: string;
  readonly y_label: string;
}

/**
 * Points in the plane of two measured values, with a bar for the interval in each direction, as SVG.
 *
 * @throws {InvalidArgumentError} when there is no point, or one is not finite.
 */
export function planePlot(
  { points, title, x_label, y_label }: PlanePlot,
  look: PlotLook = PAPER_LOOK,
): Promise<string> {
  if (points.length === 0) throw new InvalidArgumentError(`the plot '${title}' has no point`);
  for (const { label, x, y } of points)
    if (![x.mean, x.low, x.high, y.mean, y.low, y.high].every(Number.isFinite))
      throw new InvalidArgumentError(`the point '${label}' of the plot '${title}' is not finite`);
  const values = points.map(({ label, series, x, y }) => ({
    ...{ label, series, x: x.mean, y: y.mean },
    ...{ left: x.low, right: x.high, bottom: y.low, top: y.high },
  }));
  const series = [...new Set(points.map((point) => point.series))];
  const axis = (name: 'x' | 'y', ends: [string, string], range: 'width' | 'height') => ({
    name,
    type: 'linear' as const,
    domain: { data: 'points', fields: ends },
    range,
    zero: false,
    nice: true,
  });
  const stroke = { scale: 'series', field: 'series' };
  const bar = (ends: object): Mark => ({
    type: 'rule',
    from: { data: 'points' },
    encode: { enter: { ...ends, stroke, strokeOpacity: { value: 0.6 } } },
  });
  return renderSvg({
    ...plotFrame(title, look),
    data: [{ name: 'points', values }],
    scales: [
      axis('x', ['left', 'right'], 'width'),
      axis('y', ['bottom', 'top'], 'height'),
      { name: 'series', type: 'ordinal', domain: series, range: [...look.palette] },
    ],
    axes: [
      { scale: 'x', orient: 'bottom', title: x_label, tickCount: 5, grid: true, gridColor: look.grid },
      { scale: 'y', orient: 'left', title: y_label, tickCount: 5, grid: true, gridColor: look.grid },
    ],
    legends: series.length === 1 ? [] : [{ fill: 'series', symbolType: 'circle', orient: look.legend }],
    marks: [
      linesBy('series', { width: 1, opacity: 0.5 }),
      bar({ x: { scale: 'x', field: 'left' }, x2: { scale: 'x', field: 'right' }, y: { scale: 'y', field: 'y' } }),
      bar({ x: { scale: 'x', field: 'x' }, y: { scale: 'y', field: 'bottom' }, y2: { scale: 'y', field: 'top' } }),
      {
        type: 'symbol',
        from: { data: 'points' },
        encode: {
          enter: { x: { scale: 'x', field: 'x' }, y: { scale: 'y', field: 'y' }, fill: stroke, size: { value: 42 } },
        },
      },
      {
        type: 'text',
        from: { data: 'points' },
        encode: {
          enter: {
            x: { scale: 'x', field: 'x' },
            y: { scale: 'y', field: 'y' },
            dx: { value: 6 },
            dy: { value: -6 },
            text: { field: 'label' },
            fontSize: { value: 11 },
            fill: stroke,
          },
        },
      },
    ],
  } satisfies Spec);
}
