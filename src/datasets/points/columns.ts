import { InvalidArgumentError } from '../../errors.ts';

const MAX_NAME_LENGTH = 200;
/** What `isColumnName` asks for, for messages. */
export const NAME_RULE = `a name is text on one line of 1 to ${MAX_NAME_LENGTH} characters, without blanks around it`;

/** Whether a line of these cells names columns: none is a number, and not all stand for missing values. */
export function isHeader(cells: readonly string[]): boolean {
  return cells.every((cell) => !isNumberLike(cell)) && cells.some((cell) => !isMissing(cell));
}

/** As pandas, R and the UCI repository write missing values. */
const MISSING = /^([?.*-]|--|#?n\/?a|#n\/a n\/a|<na>|nan|null|none|nil|missing)?$/i;

export function isMissing(cell: string): boolean {
  return MISSING.test(cell);
}

/** Hexadecimal, octal or binary; not finite; or with a decimal comma, groups of digits, Fortran's exponent, per cent. */
const OTHER_NUMBER = /^[+-]?(0[xob].*|nan|inf(inity)?|1\.#\w+|[.,]?\d[\d.,_']*([ed][+-]?\d+)?%?)$/is;

/** Also numbers that are refused: a first line of them is no header, which would leave it out silently. */
export function isNumberLike(cell: string): boolean {
  return cell !== '' && (!Number.isNaN(Number(cell)) || OTHER_NUMBER.test(cell));
}

/**
 * Checks names of columns that a program gives.
 *
 * @param what names the points in errors.
 * @throws {InvalidArgumentError} unless there is one name a dimension, and a file with this header is read back with it.
 */
export function checkColumns(columns: readonly string[], dims: number, what: string): void {
  if (!Array.isArray(columns) || columns.length !== dims)
    throw new InvalidArgumentError(
      `${what} have ${dims} dimensions, but columns is ${JSON.stringify(columns)}: give one name for each`,
    );
  const wrong = columns.find((name) => typeof name !== 'string' || !isColumnName(name));
  if (wrong !== undefined)
    throw new InvalidArgumentError(`${what} have a column named ${JSON.stringify(wrong)}: ${NAME_RULE}`);
  if (!isHeader(columns))
    throw new InvalidArgumentError(
      `${what} have the columns ${columns.join(', ')}, which cannot be told from values: give names that are no numbers`,
    );
}

export function isColumnName(name: string): boolean {
  return name.length >= 1 && name.length <= MAX_NAME_LENGTH && name === name.trim() && !/\p{Cc}/u.test(name);
}
