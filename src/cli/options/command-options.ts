import { type Command, Option } from 'commander';
import { z } from 'zod';
import { ConfigError, InvalidArgumentError } from '../../errors.ts';
import { readConfigFile } from './config-file.ts';

/** One option of a command: a flag, and under its key in snake_case an entry of the config file. */
export interface CommandOption<Schema extends z.ZodType = z.ZodType> {
  readonly flags: string;
  readonly description: string;
  readonly schema: Schema;
  /** The heading it has in the help; default commander's own. */
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

/** Adds `--config` and the flags of the table. Commander gets no defaults: the schemas have them. */
export function addOptions(command: Command, table: OptionTable): Command {
  command.option('--config <file>', 'options from a .json or .yaml file; flags override it');
  for (const { flags, description, schema, heading } of Object.values(table)) {
    const fallback = schema.safeParse(undefined).data;
    const note = fallback === undefined || fallback === false ? '' : ` (default: ${fallback})`;
    const added = new Option(flags, description + note);
    command.addOption(heading === undefined ? added : added.helpGroup(heading));
  }
  return command;
}

/**
 * The settings of a run: the table's defaults, over them the config file, over it the flags.
 *
 * @throws {ConfigError} for the config file. @throws {InvalidArgumentError} for a flag.
 */
export async function readSettings<Table extends OptionTable>(
  table: Table,
  flags: Readonly<Record<string, unknown>>,
): Promise<Settings<Table>> {
  const { config, ...given } = flags;
  const fromFile = typeof config === 'string' ? await readConfigFile(config, Object.keys(table)) : {};
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

/** Flags are text: a number where the schema wants no text. */
function flagValue(value: unknown, schema: z.ZodType): unknown {
  if (typeof value !== 'string' || value.trim() === '' || schema.safeParse(value).success) return value;
  const number = Number(value);
  return Number.isNaN(number) ? value : number;
}
