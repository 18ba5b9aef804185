import type { Mark, Spec } from 'vega';
import { InvalidArgumentError } from '../errors.ts';
import { PALETTE, renderSvg } from './render.ts';

/** Points of two axes; `dims` must be 2. */
export interface PlotPoints {
  /** Finite numbers, row-major [count, 2]. */
  readonly data: Float32Array;
  /** Points, at least 1. */
  readonly count: number;
  /** Numbers in a point: 2. */
  readonly dims: number;
}

/** Two sets of points in one plot. */
export interface ScatterPanel {
  /** Drawn in grey beneath. */
  readonly real: PlotPoints;
  /** Drawn in colour on top. */
  readonly fake: PlotPoints;
  /** The line above the plot, for instance 'Swiss roll, λ = 0.1'. */
  readonly title: string;
}

/** How points are drawn. */
export interface ScatterOptions {
  /** Side of the square of each panel in pixels; default 360. */
  readonly size?: number | undefined;
  /** The most points of each kind that are drawn, the first ones; default 5,000. */
  readonly max_points?: number | undefined;
  /** Panels in a row, at least 1; default all of them. */
  readonly columns?: number | undefined;
}

/**
 * Generated points over real ones as SVG, with equal axes.
 *
 * @throws {InvalidArgumentError} when a set is empty, not 2-D or not finite.
 */
export function scatterPlot(panel: ScatterPanel, options: ScatterOptions = {}): Promise<string> {
  return scatterPanels([panel], options);
}

/** Several scatter plots side by side or in rows, all with the same axes. */
export async function scatterPanels(panels: readonly ScatterPanel[], options: ScatterOptions = {}): Promise<string> {
  const { size = 360, max_points = 5000, columns = panels.length } = options;
  if (panels.length === 0) throw new InvalidArgumentError('there are no panels to plot');
  for (const { real, fake, title } of panels) {
    checkPoints(real, `the real points of '${title}'`);
    checkPoints(fake, `the generated points of '${title}'`);
  }
  const domain = commonSquare(panels.map(({ real }) => real));
  return renderSvg({
    $schema: 'https://vega.github.io/schema/vega/v6.json',
    padding: 8,
    background: 'white',
    config: {
      axis: { labelFont: 'sans-serif', titleFont: 'sans-serif' },
      title: { font: 'sans-serif', fontSize: 15 },
    },
    data: panels.flatMap(({ real, fake }, i) => [
      { name: `real${i}`, values: rows(real, max_points) },
      { name: `fake${i}`, values: rows(fake, max_points) },
    ]),
    scales: [{ name: 'kind', type: 'ordinal', domain: ['real', 'generated'], range: ['#b5b5b5', PALETTE[0]] }],
    layout: { padding: 28, columns, bounds: 'full', align: 'each' },
    marks: panels.map(({ title }, i) => panelMark(title, i, size, domain, i === panels.length - 1)),
  } satisfies Spec);
}

function panelMark(title: string, index: number, size: number, domain: readonly Axis[], withLegend: boolean): Mark {
  const points = (name: string, kind: 'real' | 'generated', opacity: number): Mark => ({
    type: 'symbol',
    from: { data: `${name}${index}` },
    clip: true,
    encode: {
      enter: {
        x: { scale: 'x', field: 'x' },
        y: { scale: 'y', field: 'y' },
        size: { value: 5 },
        fill: { scale: 'kind', value: kind },
        fillOpacity: { value: opacity },
      },
    },
  });
  return {
    type: 'group',
    title: { text: title, anchor: 'middle' },
    encode: { enter: { width: { value: size }, height: { value: size }, stroke: { value: '#dddddd' } } },
    scales: [
      { name: 'x', type: 'linear', domain: [...(domain[0] ?? [])], range: [0, size], zero: false },
      { name: 'y', type: 'linear', domain: [...(domain[1] ?? [])], range: [size, 0], zero: false },
    ],
    axes: [
      { scale: 'x', orient: 'bottom', tickCount: 5 },
      { scale: 'y', orient: 'left', tickCount: 5 },
    ],
    legends: withLegend ? [{ fill: 'kind', orient: 'right', symbolType: 'circle' }] : [],
    marks: [points('real', 'real', 0.7), points('fake', 'generated', 0.55)],
  };
}

type Axis = readonly [number, number];

/** One square, a little larger than all the points, so that a unit has the same length on both axes. */
function commonSquare(sets: readonly PlotPoints[]): [Axis, Axis] {
  const ranges = [0, 1].map((axis) => {
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (const { data } of sets) {
      for (let i = axis; i < data.length; i += 2) {
        low = Math.min(low, data[i] as number);
        high = Math.max(high, data[i] as number);
      }
    }
    return { middle: (low + high) / 2, half: (high - low) / 2 };
  });
  const half = 1.08 * Math.max(...ranges.map((range) => range.half), 1e-6);
  const [x, y] = ranges.map(({ middle }) => [middle - half, middle + half] as const);
  return [x ?? [0, 1], y ?? [0, 1]];
}

function rows({ data, count }: PlotPoints, limit: number): { x: number; y: number }[] {
  const shown = Math.min(count, limit);
  return Array.from({ length: shown }, (_, i) => ({ x: short(data[2 * i]), y: short(data[2 * i + 1]) }));
}

/** Five digits are far below a pixel and keep the SVG small. */
function short(value = 0): number {
  return Number(value.toPrecision(5));
}

function checkPoints({ data, count, dims }: PlotPoints, what: string): void {
  if (dims !== 2) throw new InvalidArgumentError(`${what} have ${dims} axes, but a scatter plot needs 2`);
  if (count < 1 || data.length !== 2 * count)
    throw new InvalidArgumentError(
      `${what} are ${count}, with ${data.length} values: expected 2 a point and at least one point`,
    );
  const wrong = data.findIndex((value) => !Number.isFinite(value));
  if (wrong >= 0)
    throw new InvalidArgumentError(`${what} are not all finite: point ${wrong >> 1} holds ${data[wrong]}`);
}
