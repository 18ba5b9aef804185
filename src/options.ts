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
