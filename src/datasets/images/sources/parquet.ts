import { basename } from 'node:path';
import {
  type AsyncBuffer,
  asyncBufferFromFile,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
} from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { DatasetError, errorText } from '../../../errors.ts';
import { describeFile, startsWith } from '../../../files/known-files.ts';
import { readHead } from '../../../files/regular-file.ts';
import { fileStates, type ImageSource, MAX_ENCODED_BYTES, type SourceImage } from './image-source.ts';

/** Names of the columns, the first that a file has; `img` and `labels` are those of the Hub's cifar10 and others. */
const IMAGE_COLUMNS = ['image', 'img'];
const LABEL_COLUMNS = ['label', 'labels'];
/** A row group is decoded as a whole. The Hub writes groups of 100 to 1,000 images. */
const MAX_ROW_GROUP_BYTES = 2 * 1024 ** 3;

/**
 * Images of parquet files as on the Hugging Face Hub: column `image` of {bytes, path} or of the bytes themselves,
 * column `label` of whole numbers, if any. One row group is in memory at a time.
 */
export async function parquetSource(name: string, paths: readonly string[]): Promise<ImageSource> {
  return {
    name,
    cacheKey: `parquet ${await fileStates(paths)}`,
    async *images() {
      for (const path of paths) yield* parquetImages(path);
    },
  };
}

async function* parquetImages(path: string): AsyncGenerator<SourceImage> {
  const fail = (what: string, cause?: unknown) => new DatasetError(`${path}: ${what}`, { cause });
  const orFail = async <T>(what: string, work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (cause) {
      throw fail(`${what}: ${errorText(cause)}`, cause);
    }
  };
  const head = await readHead(path, DatasetError);
  const file = await orFail('cannot be opened', asyncBufferFromFile(path));
  const found = startsWith(head, 'PAR1') ? undefined : describeFile(head);
  if (found) throw fail(`is not a parquet file but ${found}`);
  const metadata = await orFail('is not a parquet file', parquetMetadataAsync(file));
  const columns = topLevelColumns(metadata);
  const image = IMAGE_COLUMNS.find((column) => columns.includes(column));
  const label = LABEL_COLUMNS.find((column) => columns.includes(column));
  if (image === undefined)
    throw fail(
      `has no column ${IMAGE_COLUMNS.map((column) => `'${column}'`).join(' or ')}, only ${columns.join(', ')}`,
    );

  let rowStart = 0;
  for (const group of metadata.row_groups) {
    const rows = Number(group.num_rows);
    if (Number(group.total_byte_size) > MAX_ROW_GROUP_BYTES)
      throw fail(
        `a row group has ${group.total_byte_size} bytes; write it with smaller ones (at most ${MAX_ROW_GROUP_BYTES})`,
      );
    const values = await orFail(
      `rows ${rowStart} to ${rowStart + rows} cannot be read`,
      readRows(file, metadata, [image, ...(label === undefined ? [] : [label])], rowStart, rows),
    );
    for (const [i, row] of values.entries())
      yield rowImage(`${basename(path)}, row ${rowStart + i}`, row[image], label && row[label]);
    rowStart += rows;
  }
}

function readRows(
  file: AsyncBuffer,
  metadata: FileMetaData,
  columns: string[],
  rowStart: number,
  rows: number,
): Promise<Record<string, unknown>[]> {
  return parquetReadObjects({
    file,
    metadata,
    columns,
    rowStart,
    rowEnd: rowStart + rows,
    compressors,
    // Bytes without a text annotation must stay bytes.
    utf8: false,
  });
}

function rowImage(source: string, image: unknown, label: unknown): SourceImage {
  const bytes = image !== null && typeof image === 'object' && 'bytes' in image ? image.bytes : image;
  if (!(bytes instanceof Uint8Array)) return { source, reason: 'the row holds no image' };
  if (bytes.length > MAX_ENCODED_BYTES)
    return { source, reason: `${bytes.length} bytes are more than the ${MAX_ENCODED_BYTES} that are read` };
  return { source, label: classNumber(label), encoded: bytes };
}

function classNumber(label: unknown): number | undefined {
  const value = typeof label === 'bigint' ? Number(label) : label;
  return typeof value === 'number' && Number.isInteger(value) && Math.abs(value) < 2 ** 31 ? value : undefined;
}

function topLevelColumns(metadata: FileMetaData): string[] {
  const columns: string[] = [];
  for (const chunk of metadata.row_groups[0]?.columns ?? []) {
    const name = chunk.meta_data?.path_in_schema[0];
    if (name !== undefined && !columns.includes(name)) columns.push(name);
  }
  return columns;
}
