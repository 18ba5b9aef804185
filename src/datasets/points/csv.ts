import { parse } from '#csv';
import { DatasetError, errorText } from '../../errors.ts';
import { isColumnName, isHeader, isMissing, NAME_RULE } from './columns.ts';
import type { RawPoints } from './points.ts';

const MAX_COLUMNS = 8192;

interface Row {
  readonly cells: readonly string[];
  readonly line: number;
}

/**
 * Reads points from the text of a table: one point a line, decimal numbers separated by commas, semicolons, tabs, or any
 * number of blanks. The first line may name the columns. Columns at the left without a name, as pandas writes its index,
 * are no dimensions. Lines that begin with # are comments. Lines may end in any way.
 *
 * @param where names the text in errors.
 * @throws {DatasetError} that names the line, for a cell that is not a finite decimal number, an empty row, rows of
 * different lengths.
 */
export function parseCsvPoints(text: string, where: string): RawPoints {
  const rows = splitRows(text, where);
  const [first] = rows;
  if (!first) throw new DatasetError(`${where} holds no rows`);
  const header = headerOf(first, where);
  const body = header ? rows.slice(1) : rows;
  const skipped = header?.skipped ?? 0;
  const width = first.cells.length;
  const dims = width - skipped;
  if (body.length === 0) throw new DatasetError(`${where} holds a header but no rows of numbers`);
  if (dims > MAX_COLUMNS) throw new DatasetError(`${where} has ${dims} columns; at most ${MAX_COLUMNS} are read`);

  const data = new Float64Array(body.length * dims);
  body.forEach(({ cells, line }, row) => {
    if (cells.every((cell) => cell === ''))
      throw new DatasetError(`${where}, line ${line}: the row is empty: remove it`);
    if (cells.length !== width)
      throw new DatasetError(`${where}, line ${line}: ${cells.length} values, but the first row has ${width}`);
    cells.slice(skipped).forEach((cell, axis) => {
      data[row * dims + axis] = parseCell(cell, `${where}, line ${line}, column ${skipped + axis + 1}`);
    });
  });
  return { data, dims, columns: header?.columns };
}

function splitRows(given: string, where: string): Row[] {
  const text = given.replace(/^\uFEFF/, '').replace(/\r+\n?/g, '\n');
  const delimiter = delimiterOf(text);
  const rows: Row[] = [];
  try {
    parse(delimiter === undefined ? withTabs(text) : text, {
      delimiter: delimiter ?? '\t',
      record_delimiter: '\n',
      comment: '#',
      ltrim: true,
      rtrim: true,
      relax_column_count: true,
      skip_empty_lines: false,
      // The option `info` would keep 13 fields for each row.
      on_record: (cells, { lines }) => {
        rows.push({ cells, line: lines });
        return undefined;
      },
    });
  } catch (cause) {
    throw new DatasetError(`${where} is not a table of numbers: ${errorText(cause)}`, { cause });
  }
  while (rows.at(-1)?.cells.every((cell) => cell === '')) rows.pop();
  return rows;
}

/** The separator of the first line that has something in it; undefined for blanks. Quoted names may hold any of them. */
function delimiterOf(text: string): string | undefined {
  const line = /^[^\S\n]*([^\s#][^\n]*)/m.exec(text)?.[0] ?? '';
  const unquoted = line.replace(/"[^"]*"/g, '');
  return [',', ';', '\t'].find((mark) => unquoted.includes(mark));
}

/** Each run of blanks between cells becomes one tab. */
function withTabs(text: string): string {
  return text
    .replace(/("[^"\n]*")|[^\S\n]+/g, (_blanks, quoted: string | undefined) => quoted ?? '\t')
    .replace(/^\t|\t$/gm, '');
}

/** The names of the columns, and how many columns at the left are an index. Undefined where the line holds numbers. */
function headerOf(
  { cells, line }: Row,
  where: string,
): { columns: readonly string[] | undefined; skipped: number } | undefined {
  const named = cells.findIndex((cell) => cell !== '' && !/^Unnamed: \d+/.test(cell));
  const skipped = Math.max(0, named);
  const columns = cells.slice(skipped).map((name) => name.replace(/\s+/g, ' '));
  // An index beside the numbers that pandas gives to columns without names.
  if (skipped > 0 && columns.every((name, i) => name === String(i))) return { columns: undefined, skipped };
  if (named < 0 || !isHeader(columns)) return undefined;
  const wrong = columns.findIndex((name) => !isColumnName(name));
  if (wrong >= 0)
    throw new DatasetError(
      `${where}, line ${line}, column ${skipped + wrong + 1} is named ${JSON.stringify(columns[wrong]?.slice(0, 40))}: ${NAME_RULE}`,
    );
  return { columns, skipped };
}

/** Without a way to go back over digits again and again, for long cells. */
const DECIMAL = /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i;

function parseCell(cell: string, where: string): number {
  const isDecimal = DECIMAL.test(cell);
  const value = isDecimal ? Number(cell) : Number.NaN;
  if (Number.isFinite(Math.fround(value))) return value;
  if (isMissing(cell))
    throw new DatasetError(
      `${where}: '${cell}' is not a finite number but a missing value: remove the row, or fill it in`,
    );
  const kind = !isDecimal && Number.isFinite(Number(cell)) ? 'decimal' : 'finite';
  throw new DatasetError(`${where}: '${cell.slice(0, 40)}' is not a ${kind} number`);
}
