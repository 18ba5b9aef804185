import path from 'node:path';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { ConfigError } from '../../errors.ts';
import { readJsonFile } from '../../files/json.ts';
import { withRegularFile } from '../../files/regular-file.ts';
import { nearestName } from '../../registry.ts';

const MAX_CONFIG_BYTES = 64 * 1024;
const objectSchema = z.record(z.string(), z.unknown());

/**
 * Reads the options of a command from a .json, .yaml or .yml file: an object of option names in snake_case.
 *
 * @throws {ConfigError} when the file cannot be read or holds a key that is not in `known`; names the nearest one.
 */
export async function readConfigFile(
  file: string,
  known: readonly string[],
): Promise<Record<string, unknown>> {
  const extension = path.extname(file).toLowerCase();
  if (!['.json', '.yaml', '.yml'].includes(extension))
    throw new ConfigError(`config file '${file}' must end in .json, .yaml or .yml`);
  const values =
    extension === '.json'
      ? await readJsonFile(file, objectSchema, { maxBytes: MAX_CONFIG_BYTES })
      : await readYaml(file);
  for (const key of Object.keys(values)) {
    if (known.includes(key)) continue;
    const near = nearestName(key, known);
    throw new ConfigError(
      `${file}: unknown option '${key.slice(0, 64)}'${near ? `; did you mean '${near}'?` : ''} (known: ${known.join(', ')})`,
    );
  }
  return values;
}

async function readYaml(file: string): Promise<Record<string, unknown>> {
  const fail = (message: string, options?: ErrorOptions) => new ConfigError(message, options);
  return withRegularFile(file, fail, async ({ size, read }) => {
    if (size > MAX_CONFIG_BYTES)
      throw new ConfigError(`${file} has ${size} bytes; a config file has at most ${MAX_CONFIG_BYTES}`);
    const text = Buffer.from(await read(0, size)).toString('utf8');
    const parsed = objectSchema.safeParse(parseYaml(text));
    if (!parsed.success) throw new ConfigError(`${file} must hold option names with their values`);
    return parsed.data;
  });
}
