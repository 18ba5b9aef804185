import { readdir } from 'node:fs/promises';
import type { Mutation } from './mutations/mutation.ts';

/** The files of one input, by their path below the folder they are written to. */
export type Files = Map<string, Uint8Array>;

/** A reader that is fuzzed. */
export interface FuzzedReader {
  /** Whole, valid inputs, small ones: every case is one of them with something changed. */
  examples(): Promise<readonly Files[]>;

  /** Reads the files in `folder` as a user would. Every error must be one of `src/errors.ts`. */
  read(folder: string): Promise<unknown>;

  /** Changes that know the format; they are drawn as often as those of plain bytes. */
  readonly mutations?: readonly Mutation[];

  /** Makes checksums right again, in two of three cases: else a change hardly gets past them. */
  seal?(files: Files): void;
}

/** Readers by name. `share` is a reader's part of all cases, in proportion to the sum of all shares. */
export type Readers = Readonly<Record<string, { readonly share: number; readonly load: () => Promise<FuzzedReader> }>>;

/** An input of one file. */
export function single(name: string, bytes: Uint8Array | string): Files {
  return new Map([[name, typeof bytes === 'string' ? Buffer.from(bytes) : bytes]]);
}

/** The name of the one file in the folder of a case; what readers write beside it is hidden. */
export async function onlyFile(folder: string): Promise<string> {
  return (await readdir(folder)).find((name) => !name.startsWith('.')) ?? '';
}
