import type { UnzipFileInfo } from 'fflate';
import { requireText } from '../../arguments.ts';
import { errorText, FileFormatError } from '../../errors.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import { kindNote, startsWith } from '../../files/known-files.ts';
import { npyBytes, parseNpyArray } from '../../files/npy.ts';
import { readWholeFile } from '../../files/regular-file.ts';
import { checkShape, type GaussianStatistics } from './statistics.ts';

/** 8,192 dimensions, the most that NumPy files are read with, need 512 MiB of float64. */
const MAX_ARRAY_BYTES = 2 ** 29 + 2 ** 20;
const MAX_FILE_BYTES = 2 ** 30;
const MAX_ENTRIES = 100;
const KEYS = ['mu', 'sigma', 'count'] as const;

/** A file of statistics is missing, damaged, or holds other arrays than `mu` and `sigma`. */
export class StatisticsFileError extends FileFormatError {
  static override readonly name: string = 'StatisticsFileError';
}

/**
 * Writes statistics as a NumPy `.npz` with `mu` (dims) and `sigma` (dims x dims) as pytorch-fid reads them, in
 * float64, and `count` (1), which merging needs. Uncompressed, as `numpy.savez`.
 *
 * @throws the operating system's error; the old file, if any, is then untouched.
 * @example await writeStatistics('part-0.npz', statistics.gaussian());
 */
export async function writeStatistics(path: string, statistics: GaussianStatistics): Promise<void> {
  requireText('the path of the statistics', path);
  checkShape(statistics);
  const { dims, mu, sigma, count } = statistics;
  const arrays: Record<string, Uint8Array> = {
    'mu.npy': npyBytes(mu, [dims]),
    'sigma.npy': npyBytes(sigma, [dims, dims]),
  };
  if (count !== undefined) arrays['count.npy'] = npyBytes(Float64Array.of(count), [1]);
  const { zipSync } = await import('fflate');
  await writeFileAtomic(path, zipSync(arrays, { level: 0 }));
}

/**
 * Reads the statistics of `writeStatistics`, of pytorch-fid or of clean-fid's kind: `mu` and `sigma` of any real
 * type, `count` where it is, as a single number or an array of one. Other arrays in the file are skipped unread.
 *
 * @throws {StatisticsFileError} when the file is missing, too large, not an `.npz`, without `mu` or `sigma`, or holds
 * arrays of other shapes or values that are not finite.
 * @throws {DatasetError} for an array that is damaged or does not hold numbers.
 */
export async function readStatistics(path: string): Promise<GaussianStatistics> {
  requireText('the path of the statistics', path);
  return parseStatistics(await readWholeFile(path, MAX_FILE_BYTES, StatisticsFileError), path);
}

async function parseStatistics(bytes: Uint8Array, where: string): Promise<GaussianStatistics> {
  const { found, names } = await unpack(bytes, where);
  const array = (name: string) => {
    const npy = found[`${name}.npy`];
    return npy && parseNpyArray(npy, `${where}, ${name}`);
  };
  const mu = array('mu');
  const sigma = array('sigma');
  if (!mu || !sigma)
    throw new StatisticsFileError(
      `${where} has no ${mu ? 'sigma' : 'mu'}: it holds ${names.join(', ') || 'nothing'}. Statistics need 'mu' and 'sigma', as pytorch-fid --save-stats writes them.`,
    );
  const dims = mu.data.length;
  // `np.cov` of one dimension is a single number.
  const [rows = 1, columns = 1] = sigma.shape;
  if (rows !== dims || columns !== dims)
    throw new StatisticsFileError(
      `${where}: sigma is ${rows} x ${columns}, but mu has ${dims} values; it must be ${dims} x ${dims}.`,
    );
  return { dims, mu: mu.data, sigma: sigma.data, count: countOf(array('count')?.data, where) };
}

function countOf(values: Float64Array | undefined, where: string): number | undefined {
  if (!values) return undefined;
  const [count] = values;
  if (values.length === 1 && count !== undefined && Number.isSafeInteger(count) && count >= 2) return count;
  throw new StatisticsFileError(
    `${where}: count is ${values.length === 1 ? count : `${values.length} values`}; it must be one integer of at least 2.`,
  );
}

/** The wanted arrays, and the names of all. Sizes are those of the directory, and no entry can inflate past its own. */
async function unpack(
  bytes: Uint8Array,
  where: string,
): Promise<{ found: Record<string, Uint8Array>; names: string[] }> {
  const { unzipSync } = await import('fflate');
  const names: string[] = [];
  const filter = ({ name, originalSize }: UnzipFileInfo): boolean => {
    names.push(name.slice(0, 80));
    if (names.length > MAX_ENTRIES) throw new StatisticsFileError(`${where} holds more than ${MAX_ENTRIES} files.`);
    if (!KEYS.some((key) => name === `${key}.npy`)) return false;
    if (originalSize > MAX_ARRAY_BYTES)
      throw new StatisticsFileError(
        `${where}: ${name} has ${originalSize} bytes; at most ${MAX_ARRAY_BYTES} are read.`,
      );
    if (names.indexOf(name) !== names.length - 1) throw new StatisticsFileError(`${where} holds ${name} twice.`);
    return true;
  };
  try {
    return { found: unzipSync(bytes, { filter }), names };
  } catch (cause) {
    if (cause instanceof StatisticsFileError) throw cause;
    throw new StatisticsFileError(
      `${where} is not an .npz file, or is damaged${startsWith(bytes, 'PK') ? '' : kindNote(bytes)}: ${errorText(cause)}`,
      { cause },
    );
  }
}
