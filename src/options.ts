import { z } from 'zod';
import { InvalidArgumentError } from './errors.ts';

/**
 * What a zod object of an options interface must hold: one schema a member, for no more and no fewer than the members.
 * The interface is written out, not inferred from the schema, because inferred types lose the comments that editors show.
 */
export type Fields<Options> = { readonly [Name in keyof Options]-?: z.ZodType<unknown, Options[Name]> };

/** The options once defaults are filled in: every member is there. */
export type Complete<Options> = {
  readonly [Name in keyof Options]-?: Exclude<Options[Name], undefined>;
};

/**
 * Checks options and fills in defaults.
 *
 * @param what what the options are of, for the error: 'training arguments'.
 * @param Failure the class of the error.
 * @throws {Failure} that lists every option that is wrong or unknown.
 */
export function parseOptions<Schema extends z.ZodType>(
  schema: Schema,
  options: unknown,
  what: string,
  Failure: new (message: string) => Error = InvalidArgumentError,
): z.output<Schema> {
  const parsed = schema.safeParse(options);
  if (!parsed.success) throw new Failure(`wrong ${what}:\n${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

const warnings = new Set<string>();

/** Emits a warning of the process, unless it was emitted before. */
export function warnOnce(warning: string): void {
  if (!warnings.has(warning)) process.emitWarning(warning);
  warnings.add(warning);
}

/**
 * Warns, once a process for the same keys, of keys in a config file that the class does not have and that may matter.
 * One whose value is null, false or empty asks for nothing.
 *
 * @param className of the class, for the warning.
 * @param config the keys of the file; those that begin with `_` are notes of the library that wrote it.
 * @param known keys that the class has, and keys that have no effect on it.
 */
export function warnOfUnknownKeys(className: string, config: object, known: Iterable<string>): void {
  const names = new Set(known);
  const unknown = Object.entries(config).filter(
    ([key, value]) => !names.has(key) && !key.startsWith('_') && !asksForNothing(value),
  );
  if (unknown.length === 0) return;
  const listed = unknown.map(([key, value]) => `${key} (${JSON.stringify(value).slice(0, 80)})`).join(', ');
  warnOnce(`the config of the ${className} has keys that are not known here and have no effect: ${listed}`);
}

function asksForNothing(value: unknown): boolean {
  if (value === null || value === undefined || value === false || value === '') return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}
