import type { RandomStream } from '../../../src/random/random-stream.ts';

/**
 * A change of one file.
 *
 * @param other a file of the same kind, to take pieces of.
 * @returns the changed bytes; undefined where the change does not apply to this file.
 */
export type Mutation = (
  bytes: Uint8Array,
  stream: RandomStream,
  file: { readonly name: string; readonly other: Uint8Array },
) => Uint8Array | undefined;

/** Files do not grow beyond this: the changes themselves would take long. */
export const MAX_BYTES = 2 ** 20;

export function pick<T>(stream: RandomStream, values: readonly T[]): T {
  return values[stream.integer(values.length)] as T;
}
