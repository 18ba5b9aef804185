import { readFile } from '#platform/fs';
import { ConfigError, errorText, InvalidArgumentError } from '../errors.ts';
import * as z from '../zod.ts';
import { readWholeFile } from './regular-file.ts';

/*
 * JSON files. Reading does not trust them: `parseStrictJson` refuses what `JSON.parse` silently accepts. Writing gives
 * the same text as diffusers.
 */

/** A value that JSON can hold. */
export type JsonValue = string | number | boolean | null | JsonValue[] | JsonObject;
export type JsonObject = { [key: string]: JsonValue };

/** Deeper text is refused: it could exhaust the stack of a recursive reader. */
const MAX_DEPTH = 200;

const DEFAULT_MAX_BYTES = 16 * 1024 * 1024;

/**
 * Reads and validates a JSON file that is not trusted.
 *
 * @param schema a zod schema; its output is returned.
 * @param options.maxBytes longer files are refused before they are read (default 16 MiB).
 * @param options.infinities whether `Infinity` and `-Infinity` are numbers, as Python's json writes them (default false).
 * @throws ConfigError if the file is missing, not a regular file, too long, not strict JSON or not as the schema says.
 * @example const config = await readJsonFile('unet/config.json', z.looseObject({ _class_name: z.string() }));
 */
export async function readJsonFile<T>(
  path: string,
  schema: z.ZodMiniType<T>,
  { maxBytes = DEFAULT_MAX_BYTES, infinities = false }: { maxBytes?: number; infinities?: boolean } = {},
): Promise<T> {
  return parseJson(await readWholeFile(path, maxBytes, ConfigError), schema, path, infinities);
}

/** The values of a log with one JSON value a line, without damaged lines; none where there is no file. */
export async function readJsonLines(path: string): Promise<unknown[]> {
  const text = await readFile(path).then(
    (bytes) => new TextDecoder().decode(bytes),
    () => '',
  );
  return text.split('\n').flatMap((line) => {
    try {
      return line === '' ? [] : [JSON.parse(line)];
    } catch {
      return [];
    }
  });
}

/** Parses and validates JSON bytes as {@link readJsonFile} does; `where` names them in errors. */
export function parseJson<T>(bytes: Uint8Array, schema: z.ZodMiniType<T>, where: string, infinities = false): T {
  let value: JsonValue;
  try {
    value = parseStrictJson(bytes, infinities);
  } catch (error) {
    throw new ConfigError(`${where} is not valid JSON: ${errorText(error)}.`, { cause: error });
  }
  const result = schema.safeParse(value);
  if (!result.success) throw new ConfigError(`${where} is not as expected:\n${z.prettifyError(result.error)}`);
  return result.data;
}

/**
 * JSON as diffusers' `save_config` writes it (`json.dumps(indent=2, sort_keys=True) + "\n"`): sorted keys, two spaces,
 * only ASCII, a final newline. Equal values give equal text. Properties that are `undefined` are left out.
 *
 * @throws InvalidArgumentError for what JSON cannot hold (NaN, infinities, functions, bigint): it would read back as
 * something else.
 */
export function stringifySorted(value: JsonValue): string {
  const text = JSON.stringify(value, sortKeys, 2);
  if (text === undefined) throw new InvalidArgumentError(`${String(value)} cannot be written as JSON.`);
  const escaped = text.replace(/[\u007f-\uffff]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
  return `${escaped}\n`;
}

function sortKeys(key: string, value: unknown): unknown {
  const unwritable =
    (typeof value === 'number' && !Number.isFinite(value)) || ['bigint', 'function', 'symbol'].includes(typeof value);
  if (unwritable) throw new InvalidArgumentError(`"${key}" is ${String(value)}, which cannot be written as JSON.`);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries);
}

/**
 * Parses JSON from UTF-8 bytes that are not trusted. Invalid UTF-8, repeated keys in an object (`JSON.parse` silently
 * takes the last) and nesting deeper than 200 are refused. A byte order mark is skipped.
 *
 * @param infinities whether `Infinity` and `-Infinity` are numbers, as in Python; default false.
 * @throws SyntaxError that says what is wrong; callers turn it into the error of their file format.
 */
export function parseStrictJson(bytes: Uint8Array, infinities = false): JsonValue {
  const decoded = decodeUtf8(bytes);
  const text = infinities ? withoutInfinities(decoded) : decoded;
  // Before JSON.parse: parsing first would build the deep structure that is to be refused.
  checkStructure(text);
  return JSON.parse(text) as JsonValue;
}

/** Infinities outside of strings as numbers too large for a double. A string that does not end is taken whole, once. */
function withoutInfinities(text: string): string {
  if (!text.includes('Infinity')) return text;
  return text.replace(/"[^"\\]*(?:\\.[^"\\]*)*"?|\bInfinity\b/g, (found) => (found === 'Infinity' ? '1e999' : found));
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new SyntaxError('the text is not valid UTF-8', { cause: error });
  }
}

/** Refuses deep nesting and keys that occur twice in one object. */
function checkStructure(text: string): void {
  const open: Set<string>[] = [];
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === '{' || character === '[') {
      open.push(new Set());
      if (open.length > MAX_DEPTH) throw new SyntaxError(`nested deeper than ${MAX_DEPTH}`);
    } else if (character === '}' || character === ']') open.pop();
    else if (character === '"') {
      const end = endOfString(text, i);
      const keys = open.at(-1);
      if (keys !== undefined && isFollowedByColon(text, end + 1)) {
        const key = JSON.parse(text.slice(i, end + 1)) as string;
        if (keys.has(key)) throw new SyntaxError(`the key ${JSON.stringify(key)} appears twice`);
        keys.add(key);
      }
      i = end;
    }
  }
}

/** Index of the quote that closes the string which opens at `start`, or the text's length if none does. */
function endOfString(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 92) i++;
    else if (code === 34) return i;
  }
  return text.length;
}

function isFollowedByColon(text: string, start: number): boolean {
  let i = start;
  while (text[i] === ' ' || text[i] === '\n' || text[i] === '\r' || text[i] === '\t') i++;
  return text[i] === ':';
}
