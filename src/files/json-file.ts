import { z } from 'zod';
import { ConfigError, InvalidArgumentError } from '../errors.ts';
import { type JsonObject, type JsonValue, parseStrictJson } from './json-text.ts';
import { withRegularFile } from './regular-file.ts';

const defaultMaxBytes = 16 * 1024 * 1024;
const byteOrderMark = [0xef, 0xbb, 0xbf];

/**
 * Reads and validates a JSON file that is not trusted.
 *
 * @param schema a zod schema; its output is returned.
 * @param options.maxBytes longer files are refused before they are read (default 16 MiB).
 * @throws ConfigError if the file is missing, not a regular file, too long, not strict JSON or not as the schema says.
 * @example const config = await readJsonFile('unet/config.json', z.looseObject({ _class_name: z.string() }));
 */
export async function readJsonFile<T>(
  path: string,
  schema: z.ZodType<T>,
  { maxBytes = defaultMaxBytes }: { maxBytes?: number } = {},
): Promise<T> {
  const fail = (message: string, options?: ErrorOptions) => new ConfigError(message, options);
  const bytes = await withRegularFile(path, fail, async (file) => {
    if (file.size > maxBytes) {
      throw fail(`${path} has ${file.size} bytes, more than the ${maxBytes} allowed for this file.`);
    }
    return file.read(0, file.size);
  });
  return parseJson(bytes, schema, path);
}

/** Parses and validates JSON bytes as {@link readJsonFile} does; `where` names them in errors. */
export function parseJson<T>(bytes: Uint8Array, schema: z.ZodType<T>, where: string): T {
  let value: JsonValue;
  try {
    value = parseStrictJson(withoutByteOrderMark(bytes));
  } catch (error) {
    throw new ConfigError(`${where} is not valid JSON: ${(error as Error).message}.`, { cause: error });
  }
  const result = schema.safeParse(value);
  if (!result.success)
    throw new ConfigError(`${where} is not as expected:\n${z.prettifyError(result.error)}`);
  return result.data;
}

/**
 * JSON as diffusers' `save_config` writes it (`json.dumps(indent=2, sort_keys=True) + "\n"`): sorted keys, two spaces,
 * only ASCII, a final newline. Equal values give equal text. Properties that are `undefined` are left out.
 *
 * @throws InvalidArgumentError for what JSON cannot hold (NaN, infinities, functions, bigint): it would read back as
 * something else.
 */
export function stringifySorted(value: JsonValue | JsonObject): string {
  const text = JSON.stringify(value, sortKeys, 2);
  if (text === undefined) throw new InvalidArgumentError(`${String(value)} cannot be written as JSON.`);
  const escaped = text.replace(/[\u007f-\uffff]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
  return `${escaped}\n`;
}

function sortKeys(key: string, value: unknown): unknown {
  const unwritable =
    (typeof value === 'number' && !Number.isFinite(value)) ||
    ['bigint', 'function', 'symbol'].includes(typeof value);
  if (unwritable) {
    throw new InvalidArgumentError(`"${key}" is ${String(value)}, which cannot be written as JSON.`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries);
}

function withoutByteOrderMark(bytes: Uint8Array): Uint8Array {
  return byteOrderMark.every((byte, i) => bytes[i] === byte) ? bytes.subarray(3) : bytes;
}
