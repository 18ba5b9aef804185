import path from 'node:path';
import { ConfigError } from '../../errors.ts';
import { readJsonFile } from '../../files/json.ts';
import { withRegularFile } from '../../files/regular-file.ts';
import * as z from '../../zod.ts';
import { whyRefused } from './diffusers-flags.ts';
import { meantName } from './option-names.ts';

const MAX_CONFIG_BYTES = 64 * 1024;

const objectSchema = z.record(z.string(), z.unknown());

/**
 * Reads the options of a command from a .json, .yaml or .yml file: an object of option names. A name is any long flag
 * of the option, with underscores or hyphens.
 *
 * @param names the flags of each option by its key: `{ learning_rate: ['lr', 'learning_rate'] }`.
 * @returns the values by the options' keys.
 * @throws {ConfigError} when the file cannot be read, names an option twice, or holds a name that no option has; then
 * the message says which one is most likely meant.
 */
export async function readConfigFile(
  file: string,
  names: Readonly<Record<string, readonly string[]>>,
): Promise<Record<string, unknown>> {
  const extension = path.extname(file).toLowerCase();
  if (!['.json', '.yaml', '.yml'].includes(extension))
    throw new ConfigError(`config file '${file}' must end in .json, .yaml or .yml`);
  const values =
    extension === '.json'
      ? await readJsonFile(file, objectSchema, { maxBytes: MAX_CONFIG_BYTES })
      : await readYaml(file);
  const byKey = new Map<string, { readonly name: string; readonly value: unknown }>();
  for (const [name, value] of Object.entries(values)) {
    const plain = name.replaceAll('-', '_');
    const [key] = Object.entries(names).find(([each, flags]) => each === plain || flags.includes(plain)) ?? [];
    if (key === undefined) {
      const reason = whyRefused(plain);
      if (reason !== undefined) throw new ConfigError(`${file}: ${reason}`);
      const known = Object.keys(names);
      const meant = meantName(plain, [...known, ...Object.values(names).flat()]);
      throw new ConfigError(
        `${file}: unknown option '${name.slice(0, 64)}'.${meant === undefined ? '' : ` Did you mean '${meant}'?`} (known: ${known.join(', ')})`,
      );
    }
    const other = byKey.get(key);
    if (other !== undefined)
      throw new ConfigError(`${file}: '${other.name}' and '${name}' are one option: leave one out`);
    byKey.set(key, { name, value });
  }
  return Object.fromEntries([...byKey].map(([key, { value }]) => [key, value]));
}

async function readYaml(file: string): Promise<Record<string, unknown>> {
  return withRegularFile(file, ConfigError, async ({ size, read }) => {
    if (size > MAX_CONFIG_BYTES)
      throw new ConfigError(`${file} has ${size} bytes; a config file has at most ${MAX_CONFIG_BYTES}`);
    const { parse } = await import('yaml');
    const text = Buffer.from(await read(0, size)).toString('utf8');
    const parsed = objectSchema.safeParse(parse(text));
    if (!parsed.success) throw new ConfigError(`${file} must hold option names with their values`);
    return parsed.data;
  });
}
