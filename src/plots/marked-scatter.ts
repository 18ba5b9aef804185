import type { Mark, Spec } from 'vega';
import { renderSvg } from './render.ts';
import { type Axis, chosenRows, commonSquare, type PlotPoints, titleSize } from './scatter.ts';

/** Points of one kind. */
export interface MarkedPoints {
  /** What the legend calls them. */
  readonly name: string;
  readonly points: PlotPoints;
  readonly color: string;
  readonly shape: 'circle' | 'cross' | 'diamond' | 'triangle-up';
  /** Area of a mark in square pixels. */
  readonly size: number;
}

/** Kinds of points over each other, the last on top. */
export interface MarkedScatter {
  readonly title: string;
  /** Lines below the title. */
  readonly subtitle: readonly string[];
  /** Those without points are in the legend too. */
  readonly kinds: readonly MarkedPoints[];
  /** What the axes span; they grow up to 1.6 times as wide for others. Points beyond are drawn on the border. */
  readonly span: PlotPoints;
}

const SIDE = 520;
const MOST_GROWTH = 1.6;
/** The most points of a kind that are drawn; of more, a random choice. */
const MOST_POINTS = 5000;

/** Draws kinds of points by colour and shape as SVG, with equal axes and a legend. */
export async function markedScatter({ title, subtitle, kinds, span }: MarkedScatter): Promise<string> {
  const axes = grown(commonSquare([span]), commonSquare([span, ...kinds.map(({ points }) => points)]));
  const beyond = kinds.reduce((sum, { points }) => sum + countBeyond(points, axes), 0);
  const lines = [...subtitle, ...(beyond > 0 ? [`${beyond} lie beyond the axes and are drawn on the border.`] : [])];
  const [xTitle, yTitle] = (span.columns ?? []).map((title) => ({ title }));
  const names = kinds.map(({ name }) => name);
  const scale = (name: string, range: string[]) => ({ name, type: 'ordinal' as const, domain: names, range });
  return renderSvg({
    $schema: 'https://vega.github.io/schema/vega/v6.json',
    padding: 8,
    background: 'white',
    width: SIDE,
    height: SIDE,
    config: { axis: { labelFont: 'sans-serif', titleFont: 'sans-serif' }, title: { font: 'sans-serif', fontSize: 15 } },
    title: {
      text: title,
      subtitle: lines,
      anchor: 'start',
      frame: 'group',
      offset: 10,
      fontSize: titleSize(title, SIDE),
      subtitleFont: 'sans-serif',
      subtitleFontSize: 11,
      subtitleColor: '#555555',
    },
    data: kinds.map(({ points }, i) => ({ name: `points${i}`, values: chosenRows(points, MOST_POINTS, 0) })),
    scales: [
      scale(
        'color',
        kinds.map(({ color }) => color),
      ),
      scale(
        'shape',
        kinds.map(({ shape }) => shape),
      ),
      { name: 'x', type: 'linear', domain: [...axes[0]], range: [0, SIDE], zero: false, clamp: true },
      { name: 'y', type: 'linear', domain: [...axes[1]], range: [SIDE, 0], zero: false, clamp: true },
    ],
    axes: [
      { scale: 'x', orient: 'bottom', tickCount: 5, ...xTitle },
      { scale: 'y', orient: 'left', tickCount: 5, ...yTitle },
    ],
    legends: [{ fill: 'color', shape: 'shape', orient: 'bottom', columns: 2, symbolSize: 70, labelLimit: 0 }],
    marks: kinds.map(
      ({ name, size }, i): Mark => ({
        type: 'symbol',
        from: { data: `points${i}` },
        encode: {
          enter: {
            x: { scale: 'x', field: 'x' },
            y: { scale: 'y', field: 'y' },
            size: { value: size },
            shape: { scale: 'shape', value: name },
            fill: { scale: 'color', value: name },
            fillOpacity: { value: 0.85 },
          },
        },
      }),
    ),
  } satisfies Spec);
}

function countBeyond({ data, count }: PlotPoints, axes: readonly [Axis, Axis]): number {
  const isBeyond = (i: number) =>
    axes.some(([low, high], axis) => {
      const value = data[2 * i + axis] as number;
      return value < low || value > high;
    });
  return Array.from({ length: count }, (_, i) => isBeyond(i)).filter(Boolean).length;
}

function grown(least: readonly [Axis, Axis], wanted: readonly [Axis, Axis]): [Axis, Axis] {
  const half = ([low, high]: Axis) => (high - low) / 2;
  const centre = ([low, high]: Axis) => (low + high) / 2;
  // The square about the centre of the least one that holds the wanted one.
  const reach = Math.max(
    ...least.map((axis, i) => Math.abs(centre(axis) - centre(wanted[i] ?? axis)) + half(wanted[i] ?? axis)),
  );
  const side = Math.min(MOST_GROWTH * half(least[0]), Math.max(half(least[0]), reach));
  const about = (axis: Axis): Axis => [centre(axis) - side, centre(axis) + side];
  return [about(least[0]), about(least[1])];
}
