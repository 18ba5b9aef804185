// Points in the columns of parquet files, as the Hugging Face Hub has them.
import type { SchemaTree } from 'hyparquet';
import { DatasetError, InvalidArgumentError } from '../../errors.ts';
import { openTable, type ParquetFiles, tableRows } from '../parquet/table.ts';
import type { RawPoints } from './points.ts';

/** The columns that are read where nobody names others, if a set has them. */
const USUAL = ['x', 'y'];

/** Columns in an error. */
const MOST_LISTED = 20;

/** Which columns and rows to read. */
export interface ParquetPointsChoice {
  /** Undefined: `x` and `y`, else the first two that hold numbers. */
  readonly columns: readonly string[] | undefined;
  /** Stops after so many rows; undefined reads all. */
  readonly n: number | undefined;
  /** Receives one line where columns were chosen by their place. */
  readonly warn: (message: string) => void;
}

/**
 * Reads points of parquet files, one a row.
 *
 * @throws {InvalidArgumentError} when a column that was named is not there, or holds no numbers; lists those that do.
 * @throws {DatasetError} when a file is damaged, has too few columns of numbers, or holds anything but finite numbers.
 */
export async function readParquetPoints(
  { name, files }: ParquetFiles,
  choice: ParquetPointsChoice,
): Promise<RawPoints> {
  const { n = Number.POSITIVE_INFINITY } = choice;
  const values: number[] = [];
  let columns: string[] | undefined;
  for (const ready of files) {
    const table = await openTable(await ready());
    columns ??= chosenColumns(name, table.columns, choice);
    for await (const { first, rows } of tableRows(table, columns)) {
      for (const [i, row] of rows.slice(0, n - values.length / columns.length).entries())
        for (const column of columns) values.push(finite(row[column], `${table.path}, row ${first + i}, '${column}'`));
      if (values.length >= n * columns.length) break;
    }
    if (values.length >= n * columns.length) break;
  }
  if (columns === undefined || values.length === 0) throw new DatasetError(`${name} has no rows`);
  return { data: Float64Array.from(values), dims: columns.length, columns };
}

function chosenColumns(
  name: string,
  all: readonly SchemaTree[],
  { columns: asked, warn }: ParquetPointsChoice,
): string[] {
  const numeric = all.filter(isNumeric).map(({ element }) => element.name);
  const there = numeric.slice(0, MOST_LISTED).join(', ') || 'none';
  const missing = asked?.find((column) => !numeric.includes(column));
  if (missing !== undefined)
    throw new InvalidArgumentError(`${name} has no column '${missing}' of numbers: there are ${there}`);
  if (asked) return [...asked];
  if (USUAL.every((column) => numeric.includes(column))) return USUAL;
  if (numeric.length < USUAL.length)
    throw new DatasetError(`${name} has no two columns of numbers (there are: ${there}), so it has no points`);
  const [first = '', second = ''] = numeric;
  if (numeric.length > USUAL.length)
    warn(`${name}: the columns '${first}' and '${second}' are read, of ${there}: name others as columns`);
  return [first, second];
}

/** Whether a column holds plain numbers: no lists, dates, times or decimals. */
function isNumeric({ element, children }: SchemaTree): boolean {
  const { type, repetition_type, converted_type, logical_type } = element;
  const isPlain =
    (converted_type === undefined || /^U?INT_/.test(converted_type)) &&
    (logical_type === undefined || logical_type.type === 'INTEGER');
  const isNumber = ['INT32', 'INT64', 'FLOAT', 'DOUBLE'].includes(type ?? '');
  return children.length === 0 && repetition_type !== 'REPEATED' && isNumber && isPlain;
}

function finite(value: unknown, where: string): number {
  const number = typeof value === 'bigint' ? Number(value) : value;
  if (typeof number === 'number' && Number.isFinite(Math.fround(number))) return number;
  throw new DatasetError(
    `${where}: ${value === null || value === undefined ? 'is missing' : `${String(value)} is not a finite number`}`,
  );
}
