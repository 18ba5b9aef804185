import { existsSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { ConfigError, InvalidArgumentError } from '../../errors.ts';
import { readJsonFile } from '../../files/json.ts';
import { nearestName } from '../../registry.ts';
import { importModules } from '../../threads/imported-modules.ts';
import * as z from '../../zod.ts';
import { readConfigFile } from './config-file.ts';

/** One option of a command: a flag, and an entry of the config file under its key in snake_case. */
export interface CommandOption<Schema extends z.ZodMiniType = z.ZodMiniType> {
  readonly flags: string;
  readonly description: string;
  readonly schema: Schema;
  /** Its heading in the help; default commander's own. */
  readonly heading?: string | undefined;
  /** Further long names, with underscores, which the help does not show; default none. */
  readonly aliases?: readonly string[] | undefined;
  /** What it is a list of: then its text is split, names at commas and blanks, files at commas. */
  readonly list?: ListKind | undefined;
}

type ListKind = 'names' | 'files';

/** The options of a command by key. The key is the long flag with underscores. */
export type OptionTable = Readonly<Record<string, CommandOption>>;
export type Settings<Table extends OptionTable> = {
  readonly [Key in keyof Table]: z.output<Table[Key]['schema']>;
};

export function option<Schema extends z.ZodMiniType>(
  flags: string,
  schema: Schema,
  description: string,
): CommandOption<Schema> {
  return { flags, schema, description };
}

/**
 * An option with several values. All of these are the same: `--x a b`, `--x a,b`, and in a config file `x: a, b` and
 * `x: [a, b]`. A file whose name has a comma is itself where it exists, and in a list of a config file.
 *
 * @param flags of a variadic flag: '--metrics <names...>'.
 */
export function listOption<Schema extends z.ZodMiniType>(
  list: ListKind,
  flags: string,
  schema: Schema,
  description: string,
): CommandOption<Schema> {
  return { flags, schema, description, list };
}

/** The values that a text of a list names. */
export function splitList(text: string, list: ListKind): string[] {
  if (list === 'files' && existsSync(text)) return [text];
  return text
    .split(list === 'files' ? ',' : /[\s,]+/)
    .map((part) => part.trim())
    .filter(Boolean);
}

/** The options of a table under a heading of the help. */
export function grouped<Table extends OptionTable>(heading: string, table: Table): Table {
  const entries = Object.entries(table).map(([key, one]) => [key, { ...one, heading }]);
  return Object.fromEntries(entries) as Table;
}

/** The options of a table with further names. */
export function withAliases<Table extends OptionTable>(
  table: Table,
  aliases: (key: string) => readonly string[],
): Table {
  const entries = Object.entries(table).map(([key, one]) => [key, { ...one, aliases: aliases(key) }]);
  return Object.fromEntries(entries) as Table;
}

/** A flag with a value: `--name true`. */
export const booleanSchema = z.pipe(
  z.union([z.boolean(), z.enum(['true', 'false'])], 'must be true or false'),
  z.transform((value) => value === true || value === 'true'),
);

const tf32Option = option(
  '--tf32 <boolean>',
  z.optional(booleanSchema),
  'on cuda, multiply float32 in TF32: faster, less exact (default: true, unless NVIDIA_TF32_OVERRIDE is 0)',
);

const deviceIdOption = option(
  '--device-id <number>',
  z.optional(z.int().check(z.gte(0))),
  'which GPU the device cuda is, from 0 (default: 0; ranks of mpirun take one each)',
);

const cpuFallbackOption = option(
  '--cpu-fallback <boolean>',
  z.optional(booleanSchema),
  'let nodes that cuda or webgpu cannot run run on the cpu, instead of refusing the model (default: false)',
);

/** Options of the process by the keys of `configureRuntime`. */
const PROCESS_OPTIONS = { device_id: deviceIdOption, tf32: tf32Option, cpu_fallback: cpuFallbackOption };

/** The options of a command, with those of the process where it has `--device`. */
function withProcessOptions(table: OptionTable): OptionTable {
  const { device } = table;
  if (!device) return table;
  const { heading } = device;
  const own = Object.entries(PROCESS_OPTIONS).map(([key, one]) => [key, { ...one, heading }]);
  return { ...table, ...Object.fromEntries(own) };
}

/** Adds `--config`, `--import` and the flags of the table. The defaults are in the schemas, not in commander. */
export function addOptions(command: Command, table: OptionTable): Command {
  command.option('--config <file>', 'options from a .json or .yaml file; flags override it');
  addImportOption(command);
  for (const one of Object.values(withProcessOptions(table))) {
    const { flags, description, schema, heading } = one;
    const fallback = schema.safeParse(undefined).data;
    const note = fallback === undefined || fallback === false ? '' : ` (default: ${fallback})`;
    const value = /[<[].*$/.exec(flags)?.[0] ?? '';
    // Each name is an option of its own for commander, so that two names of one option are noticed.
    for (const [i, name] of spellings(one).entries()) {
      const added = new Option(`--${name.replaceAll('_', '-')} ${value}`, description + note);
      if (heading !== undefined) added.helpGroup(heading);
      if (i === 0) added.flags = flags;
      command.addOption(i === 0 ? added : added.hideHelp());
    }
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

const importSchema = z._default(z.array(z.string().check(z.minLength(1))), []);

/**
 * The settings of a run. Flags override the config file, which overrides the defaults. The modules of `--import` and of
 * the config file's `import` are imported first. The options of the process are set here, and are none of the settings.
 *
 * @throws {ConfigError} for the config file. @throws {InvalidArgumentError} for a flag, or a module that cannot be
 * imported.
 */
export async function readSettings<Table extends OptionTable>(
  commandTable: Table,
  flags: Readonly<Record<string, unknown>>,
): Promise<Settings<Table>> {
  const table = withProcessOptions(commandTable);
  const { config, import: modules, ...given } = flags;
  const names = Object.entries(table).map(([key, one]) => [key, spellings(one)] as const);
  const keyOf = new Map(names.flatMap(([key, spelt]) => spelt.map((name) => [name, key])));
  const { import: listed, ...fromFile } =
    typeof config === 'string' ? await readConfigFile(config, { ...Object.fromEntries(names), import: [] }) : {};
  const imports = importSchema.safeParse(typeof listed === 'string' ? splitList(listed, 'files') : listed);
  if (!imports.success) throw new ConfigError(`${config}: 'import' must be a list of modules`);
  const flagged = importSchema.parse(modules).flatMap((text) => splitList(text, 'files'));
  await importModules([...imports.data, ...flagged]);
  const fromFlags: Record<string, unknown> = {};
  const flagOf = new Map<string, string>();
  for (const [camelCase, value] of Object.entries(given)) {
    const name = snakeCase(camelCase);
    const key = keyOf.get(name) ?? name;
    const other = flagOf.get(key);
    if (other !== undefined)
      throw new InvalidArgumentError(`${flagText(other)} and ${flagText(name)} are one option: leave one out`);
    flagOf.set(key, name);
    const { schema, list } = table[key] ?? { schema: z.unknown() };
    const parts = list && Array.isArray(value) ? value.flatMap((text) => splitList(String(text), list)) : value;
    fromFlags[key] = flagValue(parts, schema);
  }
  const settings: Record<string, unknown> = {};
  for (const [key, { schema, list, flags: flagNames }] of Object.entries(table)) {
    const value = fromFile[key];
    const stored = list && typeof value === 'string' ? flagValue(splitList(value, list), schema) : value;
    const parsed = schema.safeParse(fromFlags[key] ?? (list && typeof stored === 'number' ? [stored] : stored));
    if (parsed.success) {
      settings[key] = parsed.data;
      continue;
    }
    const problem = parsed.error.issues.map(({ message }) => message).join('; ');
    if (key in fromFile && !(key in fromFlags)) throw new ConfigError(`${config}: '${key}': ${problem}`);
    throw new InvalidArgumentError(`option ${flagNames}: ${problem}`);
  }
  const { device_id, tf32, cpu_fallback, ...ofCommand } = settings;
  if ([device_id, tf32, cpu_fallback].some((value) => value !== undefined)) {
    const { configureRuntime } = await import('../../runtime/configure.ts');
    configureRuntime({ device_id, tf32, cpu_fallback } as Settings<typeof PROCESS_OPTIONS>);
  }
  return ofCommand as Settings<Table>;
}

function snakeCase(camelCase: string): string {
  return camelCase.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

const flagText = (name: string) => `--${name.replaceAll('_', '-')}`;

/** All names of an option, with underscores; the first that the help shows comes first. */
function spellings({ flags, aliases = [] }: CommandOption): string[] {
  return [...longFlags(flags), ...aliases];
}

/** The long flags as keys: 'lr' and 'learning_rate' of '--lr, --learning-rate <rate>'. */
export function longFlags(flags: string): string[] {
  return [...flags.matchAll(/--([\w-]+)/g)].map(([, name = '']) => name.replaceAll('-', '_'));
}

/** Flags are text. Where the schema refuses text, it is read as a number. */
function flagValue(value: unknown, schema: z.ZodMiniType): unknown {
  if (Array.isArray(value) && !schema.safeParse(value).success)
    return value.map((part) => (part !== '' && Number.isFinite(Number(part)) ? Number(part) : part));
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
  return given && flagText(given);
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
