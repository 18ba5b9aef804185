import path from 'node:path';
import { type Command, Option } from 'commander';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { ConfigError, InvalidArgumentError } from '../../errors.ts';
import { readJsonFile } from '../../files/json.ts';
import { withRegularFile } from '../../files/regular-file.ts';
import { nearestName } from '../../registry.ts';
import { importModules } from '../../threads/imported-modules.ts';

/** One option of a command: a flag, and an entry of the config file under its key in snake_case. */
export interface CommandOption<Schema extends z.ZodType = z.ZodType> {
  readonly flags: string;
  readonly description: string;
  readonly schema: Schema;
  /** Its heading in the help; default commander's own. */
  readonly heading?: string | undefined;
}

/** The options of a command by key. The key is the long flag with underscores. */
export type OptionTable = Readonly<Record<string, CommandOption>>;
export type Settings<Table extends OptionTable> = {
  readonly [Key in keyof Table]: z.output<Table[Key]['schema']>;
};

export function option<Schema extends z.ZodType>(
  flags: string,
  schema: Schema,
  description: string,
): CommandOption<Schema> {
  return { flags, schema, description };
}

/** The options of a table under a heading of the help. */
export function grouped<Table extends OptionTable>(heading: string, table: Table): Table {
  const entries = Object.entries(table).map(([key, one]) => [key, { ...one, heading }]);
  return Object.fromEntries(entries) as Table;
}

/** Adds `--config`, `--import` and the flags of the table. The defaults are in the schemas, not in commander. */
export function addOptions(command: Command, table: OptionTable): Command {
  command.option('--config <file>', 'options from a .json or .yaml file; flags override it');
  addImportOption(command);
  for (const { flags, description, schema, heading } of Object.values(table)) {
    const fallback = schema.safeParse(undefined).data;
    const note = fallback === undefined || fallback === false ? '' : ` (default: ${fallback})`;
    const added = new Option(flags, description + note);
    command.addOption(heading === undefined ? added : added.helpGroup(heading));
  }
  return command;
}

/** Adds `--import`, which can be repeated. */
function addImportOption(command: Command): Command {
  return command.option(
    '--import <module>',
    'import this module of yours first; it registers models, losses and so on; repeatable',
    (module: string, before: readonly string[] = []) => [...before, module],
  );
}

const importSchema = z.array(z.string().min(1)).default([]);

/**
 * The settings of a run. Flags override the config file, which overrides the defaults. The modules of `--import` and of
 * the config file's `import` are imported first.
 *
 * @throws {ConfigError} for the config file. @throws {InvalidArgumentError} for a flag, or a module that cannot be
 * imported.
 */
export async function readSettings<Table extends OptionTable>(
  table: Table,
  flags: Readonly<Record<string, unknown>>,
): Promise<Settings<Table>> {
  const { config, import: modules, ...given } = flags;
  const known = [...Object.keys(table), 'import'];
  const { import: listed, ...fromFile } = typeof config === 'string' ? await readConfigFile(config, known) : {};
  const imports = importSchema.safeParse(typeof listed === 'string' ? [listed] : listed);
  if (!imports.success) throw new ConfigError(`${config}: 'import' must be a list of modules`);
  await importModules([...imports.data, ...importSchema.parse(modules)]);
  const fromFlags: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(given)) {
    const key = snakeCase(name);
    fromFlags[key] = flagValue(value, table[key]?.schema ?? z.unknown());
  }
  const settings: Record<string, unknown> = {};
  for (const [key, { schema, flags: flagNames }] of Object.entries(table)) {
    const parsed = schema.safeParse(fromFlags[key] ?? fromFile[key]);
    if (parsed.success) {
      settings[key] = parsed.data;
      continue;
    }
    const problem = parsed.error.issues.map(({ message }) => message).join('; ');
    if (key in fromFile && !(key in fromFlags)) throw new ConfigError(`${config}: '${key}': ${problem}`);
    throw new InvalidArgumentError(`option ${flagNames}: ${problem}`);
  }
  return settings as Settings<Table>;
}

function snakeCase(camelCase: string): string {
  return camelCase.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Flags are text. Where the schema refuses text, it is read as a number. */
function flagValue(value: unknown, schema: z.ZodType): unknown {
  if (typeof value !== 'string' || value.trim() === '' || schema.safeParse(value).success) return value;
  const number = Number(value);
  return Number.isNaN(number) ? value : number;
}

/** " Did you mean 'moons'?", or "" where no known name is near. */
export function didYouMean(wrong: string, known: readonly string[]): string {
  const near = nearestName(wrong, known);
  return near === undefined ? '' : ` Did you mean '${near}'?`;
}

/** The flag, such as '--data-dir', of the first of these options that was given; undefined where none was. */
export function givenFlag<Key extends string>(
  settings: { readonly [Each in Key]?: unknown },
  keys: readonly Key[],
): string | undefined {
  const given = keys.find((key) => settings[key] !== undefined);
  return given && `--${given.replaceAll('_', '-')}`;
}

const objectSchema = z.record(z.string(), z.unknown());

/** A JSON object: inline text, or the path of a .json file. In a config file also the object itself. */
export const jsonSchema = z.union([z.string(), objectSchema], 'must be a JSON object, or a .json file');

/**
 * The object that was given to an option of `jsonSchema`.
 *
 * @param flag for errors: '--loss-options'.
 * @throws {InvalidArgumentError} when the text is not a JSON object. @throws {ConfigError} for its file.
 */
export async function jsonObject(
  flag: string,
  given: z.output<typeof jsonSchema> | undefined,
): Promise<Record<string, unknown>> {
  if (typeof given !== 'string') return given ?? {};
  if (given.toLowerCase().endsWith('.json')) return readJsonFile(given, objectSchema);
  try {
    return objectSchema.parse(JSON.parse(given));
  } catch (cause) {
    throw new InvalidArgumentError(`${flag} '${given}' must be a JSON object, such as '{"name": 1}', or a .json file`, {
      cause,
    });
  }
}

const MAX_CONFIG_BYTES = 64 * 1024;

/**
 * Reads the options of a command from a .json, .yaml or .yml file: an object of option names in snake_case.
 *
 * @throws {ConfigError} when the file cannot be read or holds a key that is not in `known`; names the nearest one.
 */
async function readConfigFile(file: string, known: readonly string[]): Promise<Record<string, unknown>> {
  const extension = path.extname(file).toLowerCase();
  if (!['.json', '.yaml', '.yml'].includes(extension))
    throw new ConfigError(`config file '${file}' must end in .json, .yaml or .yml`);
  const values =
    extension === '.json'
      ? await readJsonFile(file, objectSchema, { maxBytes: MAX_CONFIG_BYTES })
      : await readYaml(file);
  for (const key of Object.keys(values)) {
    if (known.includes(key)) continue;
    throw new ConfigError(
      `${file}: unknown option '${key.slice(0, 64)}' (known: ${known.join(', ')}).${didYouMean(key, known)}`,
    );
  }
  return values;
}

async function readYaml(file: string): Promise<Record<string, unknown>> {
  return withRegularFile(file, ConfigError, async ({ size, read }) => {
    if (size > MAX_CONFIG_BYTES)
      throw new ConfigError(`${file} has ${size} bytes; a config file has at most ${MAX_CONFIG_BYTES}`);
    const text = Buffer.from(await read(0, size)).toString('utf8');
    const parsed = objectSchema.safeParse(parseYaml(text));
    if (!parsed.success) throw new ConfigError(`${file} must hold option names with their values`);
    return parsed.data;
  });
}
