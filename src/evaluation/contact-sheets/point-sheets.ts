import * as path from '#platform/path';
import type { PointSet } from '../../datasets/points/points.ts';
import { type MarkedPoints, markedScatter } from '../../plots/marked-scatter.ts';
import { writePlot } from '../../plots/render.ts';
import type { EvaluationReport, ReportedContactSheets } from '../options.ts';
import { type Naming, ordinal, writeRecord } from './record.ts';
import type { Selection } from './selection.ts';

interface SheetsOf {
  readonly folder: string;
  readonly selection: Selection;
  readonly report: EvaluationReport;
  readonly nearestK: number;
  readonly real: PointSet;
  readonly fake: PointSet;
  readonly warn: (message: string) => void;
}

/** Writes the scatter of 2-D points, and the record of points of any dimension. */
export async function writePointSheets(given: SheetsOf): Promise<ReportedContactSheets> {
  const { folder, selection, report, nearestK, real, fake, warn } = given;
  const pictures: string[] = [];
  if (real.dims === 2) {
    const svg = await markedScatter({
      title: 'Uncovered and outside points',
      subtitle: [
        `The radius of a real point reaches to its ${ordinal(nearestK)} nearest real one.`,
        'Covered: a generated point is in it. Inside: in one of them.',
      ],
      kinds: kindsOf(selection, real, fake),
      span: real,
    });
    pictures.push(...(await writePlot(path.join(folder, 'points'), svg)));
  } else
    warn(`points of ${real.dims} dimensions are not drawn: ${path.join(folder, 'contact-sheets.json')} lists them`);
  const named =
    ({ data, dims }: PointSet): Naming =>
    (index) => ({ index, point: [...data.subarray(index * dims, (index + 1) * dims)] });
  return writeRecord(folder, selection, report, { real: named(real), fake: named(fake) }, pictures);
}

/** Okabe & Ito's vermillion and blue over two greys, with shapes for those who cannot tell colours apart. */
function kindsOf({ uncovered, outside }: Selection, real: PointSet, fake: PointSet): MarkedPoints[] {
  const kind = (
    name: string,
    points: PointSet,
    numbers: readonly number[],
    look: Pick<MarkedPoints, 'color' | 'shape' | 'size'>,
  ): MarkedPoints => ({
    name: `${name} (${numbers.length})`,
    points: { ...points, data: rowsOf(points, numbers), count: numbers.length },
    ...look,
  });
  return [
    kind('real, covered', real, without(real.count, uncovered), { color: '#c8c8c8', shape: 'circle', size: 8 }),
    kind('generated, inside', fake, without(fake.count, outside), { color: '#8f9bb3', shape: 'circle', size: 8 }),
    kind('real, uncovered', real, uncovered, { color: '#D55E00', shape: 'triangle-up', size: 40 }),
    kind('generated, outside', fake, outside, { color: '#0072B2', shape: 'cross', size: 40 }),
  ];
}

function without(count: number, numbers: readonly number[]): number[] {
  const left = new Set(numbers);
  return Array.from({ length: count }, (_, i) => i).filter((i) => !left.has(i));
}

function rowsOf({ data, dims }: PointSet, numbers: readonly number[]): Float32Array {
  return Float32Array.from(numbers.flatMap((number) => [...data.subarray(number * dims, (number + 1) * dims)]));
}
