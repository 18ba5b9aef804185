import { warn } from '#platform/system';
import { InvalidArgumentError } from './errors.ts';
import { nearestName } from './registry.ts';
import * as z from './zod.ts';

/**
 * What a zod object of an options interface must hold: one schema a member, for no more and no fewer than the members.
 * The interface is written out, not inferred from the schema, because inferred types lose the comments that editors show.
 */
export type Fields<Options> = { readonly [Name in keyof Options]-?: z.ZodMiniType<unknown, Options[Name]> };

/** The options once defaults are filled in: every member is there. */
export type Complete<Options> = {
  readonly [Name in keyof Options]-?: Exclude<Options[Name], undefined>;
};

/**
 * Checks options and fills in defaults.
 *
 * @param what what the options are of, for the error: 'training arguments'.
 * @param Failure the class of the error.
 * @throws {Failure} that lists every option that is wrong or unknown, with the nearest name.
 */
export function parseOptions<Schema extends z.ZodMiniType>(
  schema: Schema,
  options: unknown,
  what: string,
  Failure: new (message: string) => Error = InvalidArgumentError,
): z.output<Schema> {
  const parsed = schema.safeParse(options);
  if (!parsed.success) throw new Failure(`wrong ${what}:\n${z.prettifyError(withNearestNames(parsed.error, schema))}`);
  return parsed.data;
}

function withNearestNames({ issues }: z.$ZodError, schema: z.ZodMiniType) {
  const known = schema instanceof z.$ZodObject ? Object.keys(schema._zod.def.shape) : [];
  const advised = issues.map((issue) => {
    if (issue.code !== 'unrecognized_keys' || issue.path.length > 0) return issue;
    const names = issue.keys.map((key) => {
      const nearest = nearestName(key, known);
      return nearest === undefined ? `'${key}'` : `'${key}' (did you mean '${nearest}'?)`;
    });
    return { ...issue, message: `unknown option ${names.join(', ')}: there are ${known.join(', ')}` };
  });
  return { issues: advised };
}

/*
 * Schemas of options whose ranges are checked where they are used, with the number of samples or the model at hand.
 */

export const numberOption = z.custom<number>((value) => typeof value === 'number', 'must be a number');
export const numbersOption = z.custom<readonly number[]>(isNumbers, 'must be a list of numbers');
/** One value for all samples, or one for each. */
export const numberOrNumbersOption = z.custom<number | readonly number[]>(
  (value) => typeof value === 'number' || isNumbers(value),
  'must be a number or a list of numbers',
);

export const signalOption = z.custom<AbortSignal>(
  (value) => typeof value === 'object' && value !== null && 'throwIfAborted' in value,
  'must be an AbortSignal',
);

export function functionOption<Given>() {
  return z.custom<Given>((value) => typeof value === 'function', 'must be a function');
}

function isNumbers(value: unknown): boolean {
  return Array.isArray(value) && value.every((one) => typeof one === 'number');
}

const warnings = new Set<string>();

/** Emits a warning of the process, unless it was emitted before. */
export function warnOnce(warning: string): void {
  if (!warnings.has(warning)) warn(warning);
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
  const shown = unknown
    .slice(0, 8)
    .map(([key, value]) => `${key.slice(0, 80)} (${JSON.stringify(value).slice(0, 80)})`);
  const more = unknown.length > shown.length ? ` and ${unknown.length - shown.length} more` : '';
  const listed = `${shown.join(', ')}${more}`;
  warnOnce(`the config of the ${className} has keys that are not known here and have no effect: ${listed}`);
}

function asksForNothing(value: unknown): boolean {
  if (value === null || value === undefined || value === false || value === '') return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}
