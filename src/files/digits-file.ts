import { readFile } from 'node:fs/promises';
import { packageFile } from './package-files.ts';

/** Where the digits are in this package. */
export const DIGITS_FILE = 'assets/digits/digits.csv.gz';

/** The file of the digits that comes with this package. @throws {BundleError} where a bundler has separated it. */
export async function digitsFile(): Promise<Uint8Array> {
  return readFile(packageFile(DIGITS_FILE));
}
