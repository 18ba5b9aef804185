import * as path from '#platform/path';
import { requireArray, requireText } from '../../arguments.ts';
import { DatasetError, errorText, InvalidArgumentError } from '../../errors.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import { describeFile, HEAD_BYTES, kindNote } from '../../files/known-files.ts';
import { npyBytes, readNpyRows } from '../../files/npy.ts';
import { readWholeFile } from '../../files/regular-file.ts';
import { checkColumns } from './columns.ts';
import type { RawPoints } from './points.ts';

/** V8 cannot hold a longer string. */
const MAX_BYTES = 2 ** 29 - 2 ** 10;

/** The endings of files of points, for messages. */
export const POINT_FILES = '.csv, .tsv, .txt or .npy';

/** Whether a file of this name holds points: text, or a NumPy array. */
export function isPointFile(file: string): boolean {
  return ['.csv', '.tsv', '.txt', '.npy'].includes(path.extname(file).toLowerCase());
}

/**
 * Reads points from a file: an array of NumPy, or a table of text as `parseCsvPoints` reads it.
 *
 * @throws {DatasetError} when the file is missing, malformed, or holds anything but finite numbers.
 */
export async function readPoints(file: string): Promise<RawPoints> {
  if (path.extname(file).toLowerCase() === '.npy') return readNpyRows(file);
  const text = await readTextFile(file);
  const { parseCsvPoints } = await import('./csv.ts');
  return parseCsvPoints(text, file);
}

/**
 * Writes points as CSV, one a line, with the shortest digits that give the same float32 back.
 *
 * @param columns names for the first line; default none.
 * @throws {InvalidArgumentError} when `columns` are not one name a dimension.
 */
export async function writeCsvPoints(
  path: string,
  data: Float32Array,
  dims: number,
  columns?: readonly string[] | undefined,
): Promise<void> {
  checkWritten(path, data, dims);
  if (columns) checkColumns(columns, dims, 'the points');
  const lines = Array.from({ length: data.length / dims }, (_, row) =>
    Array.from(data.subarray(row * dims, (row + 1) * dims), shortestFloat32).join(','),
  );
  const header = columns ? [columns.map(csvName).join(',')] : [];
  await writeFileAtomic(path, `${[...header, ...lines].join('\n')}\n`);
}

function csvName(name: string): string {
  return /^[\w.-]+$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}

/** Writes points as a NumPy file of float32, shape (n, dims). */
export async function writeNpyPoints(path: string, data: Float32Array, dims: number): Promise<void> {
  checkWritten(path, data, dims);
  await writeFileAtomic(path, npyBytes(data, [data.length / dims, dims]));
}

/** @throws {InvalidArgumentError} unless the data are whole points, and there is a path to write them to. */
function checkWritten(path: string, data: Float32Array, dims: number): void {
  requireText('the path of the points', path);
  requireArray('the points', data);
  if (!Number.isInteger(dims) || dims < 1 || data.length % dims !== 0)
    throw new InvalidArgumentError(`${data.length} numbers are not whole points of ${String(dims)} dimensions`);
}

function shortestFloat32(value: number): string {
  for (let digits = 6; digits < 9; digits++) {
    const text = value.toPrecision(digits);
    if (Math.fround(Number(text)) === value) return String(Number(text));
  }
  return String(Number(value.toPrecision(9)));
}

async function readTextFile(path: string): Promise<string> {
  const bytes = await readWholeFile(path, MAX_BYTES, DatasetError);
  // A column may be called PAR1: only a zero byte or markup makes it another file.
  const found = bytes.subarray(0, HEAD_BYTES).includes(0) || bytes[0] === 0x3c ? describeFile(bytes) : undefined;
  if (found !== undefined) throw new DatasetError(`${path} is not a table of points but ${found}`);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new DatasetError(`${path} cannot be read as text${kindNote(bytes)}: ${errorText(cause)}.`, { cause });
  }
}
