import { openForReading } from '#platform/fs';
import { DatasetError } from '../../errors.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import { bytesOfLatin1 } from '../../files/bytes.ts';
import { withRegularFile } from '../../files/regular-file.ts';
import { bytesOf } from '../../platform/bytes.ts';

/*
 * The file of encoded images: rows of float32 values, little endian, and the magic. What the rows are says its name, which is a
 * checksum of all that decides them.
 */
const MAGIC = bytesOfLatin1('ISODLAT1');

/** The values of a row, valid until the next call. */
export type LatentRows = (row: number) => Float32Array;

/** Writes rows while they are made. Whole or not at all, see `writeFileAtomic`. */
export async function writeLatentFile(path: string, rows: AsyncIterable<Float32Array>): Promise<void> {
  const pieces = async function* () {
    for await (const values of rows) yield bytesOf(values);
    yield MAGIC;
  };
  await writeFileAtomic(path, pieces());
}

/**
 * Opens a file: into memory when its values take at most `maxMemoryBytes`, else they stay in the file. Undefined when it is
 * missing or damaged, and has to be written (again).
 */
export async function openLatentFile(
  path: string,
  { rows, valuesPerRow }: { readonly rows: number; readonly valuesPerRow: number },
  maxMemoryBytes: number,
): Promise<LatentRows | undefined> {
  const bytes = rows * valuesPerRow * Float32Array.BYTES_PER_ELEMENT;
  try {
    return await withRegularFile(path, DatasetError, async (file) => {
      if (file.size !== bytes + MAGIC.length) return undefined;
      const tail = await file.read(bytes, file.size);
      if (!tail.every((byte, i) => byte === MAGIC[i])) return undefined;
      if (bytes > maxMemoryBytes) return rowsOfFile(path, valuesPerRow);
      const values = new Float32Array((await file.read(0, bytes)).buffer);
      return (row) => values.subarray(row * valuesPerRow, (row + 1) * valuesPerRow);
    });
  } catch (error) {
    if (error instanceof DatasetError) return undefined;
    throw error;
  }
}

function rowsOfFile(path: string, valuesPerRow: number): LatentRows {
  // Open as long as the latents are used: the file may be replaced or removed meanwhile.
  const readInto = openForReading(path);
  const values = new Float32Array(valuesPerRow);
  const bytes = bytesOf(values);
  return (row) => {
    for (let done = 0; done < bytes.length; ) {
      const read = readInto(bytes, done, bytes.length - done, row * bytes.length + done);
      if (read === 0) throw new DatasetError(`${path} became shorter while it was used: start the training again`);
      done += read;
    }
    return values;
  };
}
