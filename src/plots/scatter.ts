import type { Mark, Spec } from 'vega';
import { requireArray, requireObject } from '../arguments.ts';
import { InvalidArgumentError } from '../errors.ts';
import { RandomStream, STREAM } from '../random/random-stream.ts';
import { PALETTE, renderSvg } from './render.ts';

/** Points of two axes; `dims` must be 2. */
export interface PlotPoints {
  /** Finite numbers, row-major [count, 2]. */
  readonly data: Float32Array;
  /** Points, at least 1. */
  readonly count: number;
  /** Numbers in a point: 2. */
  readonly dims: number;
  /** Names of the two columns, which become the titles of the axes. Default: axes without titles. */
  readonly columns?: readonly string[] | undefined;
}

/** Generated points, and mostly real ones beneath. */
export interface ScatterPanel {
  /** Drawn in grey beneath; default none. The axes span these points, or the generated ones where there are none. */
  readonly real?: PlotPoints | undefined;
  /** Drawn in colour on top. Those outside the axes are not seen. */
  readonly fake: PlotPoints;
  /** The line above the plot, for instance 'Swiss roll, λ = 0.1'. */
  readonly title: string;
}

/** How points are drawn. */
export interface ScatterOptions {
  /** Side of the square of each panel in pixels; default 360. */
  readonly size?: number | undefined;
  /** The most points of each kind that are drawn, at least 1; default 5,000. Of more points, a random choice is drawn. */
  readonly max_points?: number | undefined;
  /** Seed of that choice: a whole number from 0; default 0. */
  readonly seed?: number | undefined;
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

/**
 * Several scatter plots side by side or in rows, all with the same axes.
 *
 * @throws {InvalidArgumentError} as `scatterPlot`, and when there is no panel or an option is out of range.
 */
export function scatterPanels(panels: readonly ScatterPanel[], options: ScatterOptions = {}): Promise<string> {
  return scatterSvg(panels, options);
}

/** `scatterPanels` with axes that are given: without, they span the points of all panels. */
export async function scatterSvg(
  panels: readonly ScatterPanel[],
  options: ScatterOptions,
  axes?: readonly Axis[],
): Promise<string> {
  requireArray('the panels', panels);
  requireObject('the options of the plot', options);
  for (const panel of panels) {
    requireObject('a panel', panel);
    requireObject('fake, the points of a panel,', panel.fake);
  }
  const { size = 360, max_points = 5000, columns = panels.length, seed = 0 } = options;
  if (panels.length === 0) throw new InvalidArgumentError('there are no panels to plot');
  if (!Number.isInteger(max_points) || max_points < 1)
    throw new InvalidArgumentError(`max_points is ${max_points}, but must be a whole number of at least 1`);
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new InvalidArgumentError(`seed is ${seed}, but must be a whole number of at least 0`);
  for (const { real, fake, title } of panels) {
    if (real) checkPoints(real, `the real points of '${title}'`);
    checkPoints(fake, `the generated points of '${title}'`);
  }
  const domain = axes ?? commonSquare(panels.map(({ real, fake }) => real ?? fake));
  const kinds = panels.some(({ real }) => real) ? KINDS : KINDS.slice(1);
  return renderSvg({
    $schema: 'https://vega.github.io/schema/vega/v6.json',
    padding: 8,
    background: 'white',
    config: {
      axis: { labelFont: 'sans-serif', titleFont: 'sans-serif' },
      title: { font: 'sans-serif', fontSize: 15 },
    },
    data: panels.flatMap(({ real, fake }, i) => [
      ...(real ? [{ name: `real${i}`, values: chosenRows(real, max_points, seed) }] : []),
      { name: `fake${i}`, values: chosenRows(fake, max_points, seed) },
    ]),
    scales: [
      {
        name: 'kind',
        type: 'ordinal',
        domain: kinds.map(({ name }) => name),
        range: kinds.map(({ color }) => color),
      },
    ],
    layout: { padding: 28, columns, bounds: 'full', align: 'each' },
    marks: panels.map((panel, i) => panelMark(panel, i, size, domain, i === panels.length - 1)),
  } satisfies Spec);
}

const KINDS = [
  { name: 'real', color: '#b5b5b5' },
  { name: 'generated', color: PALETTE[0] },
] as const;

function panelMark(
  { real, fake, title }: ScatterPanel,
  index: number,
  size: number,
  domain: readonly Axis[],
  withLegend: boolean,
): Mark {
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
  const [xTitle, yTitle] = (real?.columns ?? fake.columns ?? []).map((title) => ({ title }));
  return {
    type: 'group',
    // The frame 'group' centres the title on the square; the default frame counts axes and legend too.
    title: { text: title, anchor: 'middle', frame: 'group', fontSize: titleSize(title, size) },
    encode: { enter: { width: { value: size }, height: { value: size }, stroke: { value: '#dddddd' } } },
    scales: [
      { name: 'x', type: 'linear', domain: [...(domain[0] ?? [])], range: [0, size], zero: false },
      { name: 'y', type: 'linear', domain: [...(domain[1] ?? [])], range: [size, 0], zero: false },
    ],
    axes: [
      { scale: 'x', orient: 'bottom', tickCount: 5, ...xTitle },
      { scale: 'y', orient: 'left', tickCount: 5, ...yTitle },
    ],
    legends: withLegend ? [{ fill: 'kind', orient: 'right', symbolType: 'circle' }] : [],
    marks: [...(real ? [points('real', 'real', 0.7)] : []), points('fake', 'generated', 0.55)],
  };
}

/** A title that is wider than its panel is made smaller. */
export function titleSize(title: string, size: number): number {
  return Math.max(6, Math.min(15, (1.7 * size) / Math.max(title.length, 1)));
}

export type Axis = readonly [number, number];

/** One square, a little larger than all the points, so that a unit has the same length on both axes. */
export function commonSquare(sets: readonly PlotPoints[]): [Axis, Axis] {
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

/** A random choice, because the first rows of a set can be one part of it: those of `moons` are one moon. */
export function chosenRows({ data, count }: PlotPoints, limit: number, seed: number): { x: number; y: number }[] {
  const point = (i: number) => ({ x: short(data[2 * i]), y: short(data[2 * i + 1]) });
  if (count <= limit) return Array.from({ length: count }, (_, i) => point(i));
  const chosen = new RandomStream(seed, STREAM.plots).permutation(count).subarray(0, limit).sort();
  return Array.from(chosen, point);
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
