import { isSyntheticName, syntheticPoints } from '../../src/datasets/points/synthetic.ts';
import type { PointData } from '../messages.ts';
import { OWN_SET, type PageState } from './state.ts';

/** Points of a named set. */
const COUNT = 10_000;
const MAX_CSV_BYTES = 20 * 2 ** 20;

/** The points that a state names. */
export function pointDataOf({ set, own }: PageState): PointData {
  if (isSyntheticName(set)) return { name: set, data: syntheticPoints(set, { count: COUNT, seed: 0 }) };
  if (set === OWN_SET && own) return { name: 'Your own set', data: own };
  throw new Error('There are no points of your own yet: draw some below, or open a CSV file.');
}

/** The first two columns of a table of numbers. */
export async function readCsv(file: File): Promise<Float64Array> {
  if (file.size > MAX_CSV_BYTES)
    throw new Error(`${file.name} has ${Math.round(file.size / 2 ** 20)} MB. At most 20 MB of points are read.`);
  const { parseCsvPoints } = await import('../../src/datasets/points/csv.ts');
  const { data, dims } = parseCsvPoints(await file.text(), file.name);
  if (dims < 2) throw new Error(`${file.name} has one column, but a point needs two numbers.`);
  return Float64Array.from(
    { length: (2 * data.length) / dims },
    (_, i) => data[Math.floor(i / 2) * dims + (i % 2)] ?? 0,
  );
}
