import { parse } from 'csv-parse/sync';
import { DatasetError, errorText } from '../../errors.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import { npyBytes } from '../../files/npy.ts';
import { readWholeFile } from '../../files/regular-file.ts';
import type { RawPoints } from './points.ts';

/** V8 cannot hold a longer string. */
const MAX_BYTES = 2 ** 29 - 2 ** 10;
const MAX_COLUMNS = 8192;

/**
 * Reads points from a text file: one a line, numbers separated by commas, semicolons, tabs or spaces; the first line
 * may name the columns, lines that begin with # are comments.
 *
 * @throws {DatasetError} that names the line, for a cell that is not a finite number, an empty row, rows of different
 * lengths; and for a file that is missing, empty or larger than 512 MiB.
 */
export async function readCsvPoints(path: string): Promise<RawPoints> {
  return parseCsvPoints(await readTextFile(path), path);
}

/** {@link readCsvPoints} of text in memory; `where` names it in errors. */
export function parseCsvPoints(text: string, where: string): RawPoints {
  const rows = splitRows(text, where);
  const [first] = rows;
  if (!first) throw new DatasetError(`${where} holds no rows`);
  const body = isHeader(first.cells) ? rows.slice(1) : rows;
  const dims = first.cells.length;
  if (body.length === 0) throw new DatasetError(`${where} holds a header but no rows of numbers`);
  if (dims > MAX_COLUMNS) throw new DatasetError(`${where} has ${dims} columns; at most ${MAX_COLUMNS} are read`);

  const data = new Float64Array(body.length * dims);
  body.forEach(({ cells, line }, row) => {
    if (cells.every((cell) => cell === ''))
      throw new DatasetError(`${where}, line ${line}: the row is empty: remove it`);
    if (cells.length !== dims)
      throw new DatasetError(`${where}, line ${line}: ${cells.length} values, but the first row has ${dims}`);
    cells.forEach((cell, column) => {
      data[row * dims + column] = parseCell(cell, `${where}, line ${line}, column ${column + 1}`);
    });
  });
  return { data, dims };
}

/** Writes points as CSV, one a line, with the shortest digits that give the same float32 back. */
export async function writeCsvPoints(path: string, data: Float32Array, dims: number): Promise<void> {
  const lines = Array.from({ length: data.length / dims }, (_, row) =>
    Array.from(data.subarray(row * dims, (row + 1) * dims), shortestFloat32).join(','),
  );
  await writeFileAtomic(path, `${lines.join('\n')}\n`);
}

/** Writes points as a NumPy file of float32, shape (n, dims). */
export async function writeNpyPoints(path: string, data: Float32Array, dims: number): Promise<void> {
  await writeFileAtomic(path, npyBytes(data, [data.length / dims, dims]));
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
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new DatasetError(`${path} cannot be read as text: ${errorText(cause)}.`, { cause });
  }
}

function splitRows(text: string, where: string): { cells: string[]; line: number }[] {
  try {
    const records = parse(text, {
      bom: true,
      delimiter: delimiterOf(text),
      comment: '#',
      info: true,
      ltrim: true,
      rtrim: true,
      relax_column_count: true,
      skip_empty_lines: false,
    }) as unknown as { record: string[]; info: { lines: number } }[];
    const rows = records.map(({ record, info }) => ({ cells: record, line: info.lines }));
    while (rows.at(-1)?.cells.every((cell) => cell === '')) rows.pop();
    return rows;
  } catch (cause) {
    throw new DatasetError(`${where} is not a table of numbers: ${errorText(cause)}`, { cause });
  }
}

/** The separator of the first line that has something in it. */
function delimiterOf(text: string): string | string[] {
  const line = /^(?!\s*#)[^\n]*\S[^\n]*/m.exec(text)?.[0] ?? '';
  return [',', ';', '\t'].find((mark) => line.includes(mark)) ?? [' ', '\t'];
}

/** A first row without a single number names the columns. */
function isHeader(cells: readonly string[]): boolean {
  return (
    cells.some((cell) => cell !== '') &&
    cells.every((cell) => cell === '' || (Number.isNaN(Number(cell)) && !/^[+-]?(nan|inf(inity)?)$/i.test(cell)))
  );
}

function parseCell(cell: string, where: string): number {
  const value = cell === '' ? Number.NaN : Number(cell);
  if (Number.isFinite(value) && Number.isFinite(Math.fround(value))) return value;
  throw new DatasetError(`${where}: '${cell.slice(0, 40)}' is not a finite number`);
}
