// Tables of parquet files, a row group at a time. Nothing in them is trusted.
import type { AsyncBuffer, Compressors, FileMetaData, RowGroup, SchemaTree } from 'hyparquet';
import { nextTurn } from '#platform/system';
import { DatasetError, errorText } from '../../errors.ts';
import { describeFile, startsWith } from '../../files/known-files.ts';
import { readHead } from '../../files/regular-file.ts';
import { refuseEndlessRuns } from './pages.ts';

/** A row group is decoded as a whole. The Hub writes groups of 100 to 1,000 images. */
const MAX_ROW_GROUP_BYTES = 2 * 1024 ** 3;

/** Parquet files that are one set. */
export interface ParquetFiles {
  /** The name of the set. */
  readonly name: string;
  /** Text that changes whenever a file may have changed. */
  readonly state: string;
  /** Makes each file in turn ready and gives its path, when the file before it has been read. */
  readonly files: readonly (() => Promise<string>)[];
  /** The names of the classes of a column, where the files do not have them. */
  readonly classNames?: (column: string) => readonly string[] | undefined;
}

/** An open file. */
export interface Table {
  readonly path: string;
  readonly file: AsyncBuffer;
  readonly metadata: FileMetaData;
  /** With their types, and the fields of structures as their children. */
  readonly columns: readonly SchemaTree[];
}

/** Rows that follow one another. */
export interface TableRows {
  /** The number of the first one in the file. */
  readonly first: number;
  readonly rows: readonly Readonly<Record<string, unknown>>[];
}

/** @throws {DatasetError} when it is not a parquet file. */
export async function openTable(path: string): Promise<Table> {
  const head = await readHead(path, DatasetError);
  const found = startsWith(head, 'PAR1') ? undefined : describeFile(head);
  if (found) throw new DatasetError(`${path}: is not a parquet file but ${found}`);
  const { asyncBufferFromFile, parquetMetadataAsync, parquetSchema } = await import('hyparquet');
  const file = await orFail(path, 'cannot be opened', asyncBufferFromFile(path));
  const metadata = await orFail(path, 'is not a parquet file', parquetMetadataAsync(file));
  const { children } = await orFail(path, 'has no columns', (async () => parquetSchema(metadata))());
  return { path, file, metadata, columns: children };
}

/** All rows, a row group at a time. @throws {DatasetError} when one is damaged or too large. */
export async function* tableRows({ path, file, metadata }: Table, columns: string[]): AsyncGenerator<TableRows> {
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    const rows = Number(group.num_rows);
    if (Number(group.total_byte_size) > MAX_ROW_GROUP_BYTES)
      throw new DatasetError(
        `${path}: a row group has ${group.total_byte_size} bytes; write it with smaller ones (at most ${MAX_ROW_GROUP_BYTES})`,
      );
    if (!(rows >= 0 && rows <= file.byteLength))
      throw new DatasetError(`${path}: a row group promises ${rows} rows, but the file has ${file.byteLength} bytes`);
    const values = await orFail(
      path,
      `rows ${rowStart} to ${rowStart + rows} cannot be read`,
      checkedRows(file, metadata, group, { columns, rowStart, rows }),
    );
    yield { first: rowStart, rows: values };
    rowStart += rows;
  }
}

interface RowRange {
  readonly columns: string[];
  readonly rowStart: number;
  readonly rows: number;
}

async function checkedRows(file: AsyncBuffer, metadata: FileMetaData, group: RowGroup, range: RowRange) {
  const compressors = await boundedCompressors();
  await refuseEndlessRuns(file, metadata, group, { columns: range.columns, compressors });
  return readRows(file, metadata, { ...range, compressors });
}

async function orFail<T>(path: string, what: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    throw new DatasetError(`${path}: ${what}: ${errorText(cause)}`, { cause });
  }
}

/**
 * hyparquet starts on a column before it has looked at the next one. When that one is wrong it gives up, and nothing waits
 * for the first: its own failure would end the process. So it gets no bytes before it has looked at all columns, and none
 * after it gave up.
 */
async function readRows(
  file: AsyncBuffer,
  metadata: FileMetaData,
  { columns, rowStart, rows, compressors }: RowRange & { readonly compressors: Compressors },
): Promise<Record<string, unknown>[]> {
  let hasEnded = false;
  const bytes = async (start: number, end?: number): Promise<ArrayBuffer> => {
    await nextTurn();
    return hasEnded ? new Promise(() => undefined) : file.slice(start, end);
  };
  const slice = (start: number, end?: number) => {
    const reading = bytes(start, end);
    reading.catch(() => undefined);
    return reading;
  };
  const { parquetReadObjects } = await import('hyparquet');
  try {
    return await parquetReadObjects({
      file: { byteLength: file.byteLength, slice },
      metadata,
      columns,
      rowStart,
      rowEnd: rowStart + rows,
      compressors,
      // Bytes without a text annotation must stay bytes.
      utf8: false,
    });
  } finally {
    hasEnded = true;
  }
}

/** A page states its size when unpacked: one that states too much is refused before memory is taken for it. */
async function boundedCompressors(): Promise<Compressors> {
  const { compressors } = await import('hyparquet-compressors');
  return Object.fromEntries(
    Object.entries(compressors).map(([name, unpack]) => [
      name,
      (packed: Uint8Array, length: number) => {
        if (length > MAX_ROW_GROUP_BYTES) throw new Error(`a page states ${length} bytes`);
        return unpack(packed, length);
      },
    ]),
  );
}
