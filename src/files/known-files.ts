import { bytesOfLatin1, latin1OfBytes } from './bytes.ts';

/* What a file is that turned out not to be what its name says. */

/** Bytes from the beginning of a file that {@link describeFile} looks at. */
export const HEAD_BYTES = 512;

const LFS_POINTER = 'version https://git-lfs.github.com/spec/';

const TAR = { what: 'a tar archive', at: 257, begins: 'ustar' };

const KNOWN: readonly { what: string; at?: number; begins: string | readonly number[] }[] = [
  {
    what: 'a git-lfs pointer, not the file itself: fetch that with `git lfs pull`',
    begins: LFS_POINTER,
  },
  { what: 'a gzip file', begins: [0x1f, 0x8b] },
  { what: 'a zip file', begins: 'PK\x03\x04' },
  { what: 'an xz file', begins: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00] },
  { what: 'a bzip2 file', begins: 'BZh' },
  { what: 'a Zstandard file', begins: [0x28, 0xb5, 0x2f, 0xfd] },
  { what: 'a 7-Zip file', begins: [0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c] },
  { what: 'a RAR file', begins: 'Rar!' },
  TAR,
  { what: 'a parquet file', begins: 'PAR1' },
  { what: 'an Arrow file', begins: 'ARROW1' },
  { what: 'an HDF5 file', begins: [0x89, 0x48, 0x44, 0x46] },
  { what: 'an NPY file', begins: [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59] },
  { what: 'a PDF document', begins: '%PDF' },
];

/** What a file is by its first bytes, as words for "it is ..."; undefined for anything that is not known. */
export function describeFile(head: Uint8Array): string | undefined {
  const known = KNOWN.find(({ at = 0, begins }) => startsWith(head, begins, at));
  if (known) return known.what;
  const text = textOf(head).trimStart().toLowerCase();
  return /^<(!doctype html|html)/.test(text) ? 'an HTML page, as a server sends instead of a missing file' : undefined;
}

/** What to add to the message that a file is not what it should be: '; it is a zip file', or nothing. */
export function kindNote(head: Uint8Array): string {
  const found = describeFile(head);
  return found === undefined ? '' : `; it is ${found}`;
}

/** Whether git-lfs has left a note of the file's digest in its place. */
export function isLfsPointer(head: Uint8Array): boolean {
  return startsWith(head, LFS_POINTER);
}

/** Whether a file begins as gzip does. */
export function isGzip(head: Uint8Array): boolean {
  return startsWith(head, [0x1f, 0x8b]);
}

export function isTar(head: Uint8Array): boolean {
  return startsWith(head, TAR.begins, TAR.at);
}

/** Whether `begins` stands in the bytes at `at`. */
export function startsWith(bytes: Uint8Array, begins: string | readonly number[], at = 0): boolean {
  const expected = typeof begins === 'string' ? bytesOfLatin1(begins) : begins;
  return expected.length <= bytes.length - at && expected.every((value, i) => bytes[at + i] === value);
}

function textOf(head: Uint8Array): string {
  return latin1OfBytes(head.subarray(0, HEAD_BYTES));
}
