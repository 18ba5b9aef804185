import { basename } from 'node:path';
import {
  type AsyncBuffer,
  asyncBufferFromFile,
  type Compressors,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
  type RowGroup,
} from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import * as z from 'zod';
import { nextTurn } from '#platform/system';
import { DatasetError, errorText } from '../../../errors.ts';
import { describeFile, startsWith } from '../../../files/known-files.ts';
import { readHead } from '../../../files/regular-file.ts';
import {
  classOf,
  type ImageSource,
  labelColumnOf,
  MAX_ENCODED_BYTES,
  type SourceChoice,
  type SourceImage,
} from './image-source.ts';
import { refuseEndlessRuns } from './parquet-pages.ts';
import { fileStates } from './source-files.ts';

/** Names of the column of images, the first that a file has; `img` is that of the Hub's cifar10 and others. */
const IMAGE_COLUMNS = ['image', 'img'];
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

/**
 * Images of parquet files as on the Hugging Face Hub: column `image` of {bytes, path} or of the bytes themselves, and a
 * column of classes, numbers or names, if any. One row group is in memory at a time.
 *
 * @throws {DatasetError} when the first file is damaged or has no column of images.
 */
export async function parquetSource(
  { name, state, files, classNames }: ParquetFiles,
  choice: Pick<SourceChoice, 'labelColumn'>,
): Promise<ImageSource> {
  const path = (await files[0]?.()) ?? name;
  const first = await openParquet(path, choice);
  const { label, classNames: stored } = first;
  const names = stored ?? (label === undefined ? undefined : classNames?.(label));
  return {
    name,
    classNames: names,
    cacheKey: `parquet ${label} ${state}${stored === names ? '' : ` ${JSON.stringify(names)}`}`,
    async *images() {
      let rows = 0;
      for (const [i, ready] of files.entries()) {
        const opened = i === 0 ? first : await openParquet(await ready(), choice);
        for await (const image of parquetImages(opened)) {
          rows++;
          yield image;
        }
      }
      if (rows === 0) throw new DatasetError(`${name} has no rows`);
    },
  };
}

/** Parquet files on the disk. */
export async function localParquet(name: string, paths: readonly string[]): Promise<ParquetFiles> {
  return { name, state: await fileStates(paths), files: paths.map((path) => async () => path) };
}

interface OpenParquet {
  readonly path: string;
  readonly file: AsyncBuffer;
  readonly metadata: FileMetaData;
  /** The column of the images. */
  readonly image: string;
  /** The column of the classes, if any. */
  readonly label: string | undefined;
  readonly classNames: readonly string[] | undefined;
}

async function openParquet(path: string, choice: Pick<SourceChoice, 'labelColumn'>): Promise<OpenParquet> {
  const head = await readHead(path, DatasetError);
  const found = startsWith(head, 'PAR1') ? undefined : describeFile(head);
  if (found) throw new DatasetError(`${path}: is not a parquet file but ${found}`);
  const file = await orFail(path, 'cannot be opened', asyncBufferFromFile(path));
  const metadata = await orFail(path, 'is not a parquet file', parquetMetadataAsync(file));
  const { children } = await orFail(path, 'has no columns', (async () => parquetSchema(metadata))());
  const columns = children.map(({ element }) => element.name);
  const features = hubFeaturesOf(metadata);
  const declared = columns.filter((column) => features[column]?._type === 'Image');
  const image =
    IMAGE_COLUMNS.find((column) => (declared.length > 0 ? declared : columns).includes(column)) ??
    declared[0] ??
    children.find((column) => column.children.some(({ element }) => element.name === 'bytes'))?.element.name;
  if (image === undefined)
    throw new DatasetError(
      `${path}: has no column ${IMAGE_COLUMNS.map((column) => `'${column}'`).join(' or ')}, only ${columns.join(', ')}`,
    );
  const label = labelColumnOf(columns, choice, path);
  return { path, file, metadata, image, label, classNames: label === undefined ? undefined : features[label]?.names };
}

const hubFeatures = z.record(
  z.string(),
  z.object({ _type: z.string().optional().catch(undefined), names: z.array(z.string()).optional().catch(undefined) }),
);
const hubMetadata = z.object({ info: z.object({ features: hubFeatures }) });

/** What `datasets` writes beside the schema: which columns are images, and the names of classes. */
function hubFeaturesOf({ key_value_metadata = [] }: FileMetaData): z.output<typeof hubFeatures> {
  const text = key_value_metadata.find(({ key }) => key === 'huggingface')?.value;
  try {
    return hubMetadata.parse(JSON.parse(text ?? '')).info.features;
  } catch {
    // Other programs may write what they like there.
    return {};
  }
}

async function* parquetImages({ path, file, metadata, image, label }: OpenParquet): AsyncGenerator<SourceImage> {
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    const rows = Number(group.num_rows);
    if (Number(group.total_byte_size) > MAX_ROW_GROUP_BYTES)
      throw new DatasetError(
        `${path}: a row group has ${group.total_byte_size} bytes; write it with smaller ones (at most ${MAX_ROW_GROUP_BYTES})`,
      );
    if (!(rows >= 0 && rows <= file.byteLength))
      throw new DatasetError(`${path}: a row group promises ${rows} rows, but the file has ${file.byteLength} bytes`);
    const columns = [image, ...(label === undefined ? [] : [label])];
    const values = await orFail(
      path,
      `rows ${rowStart} to ${rowStart + rows} cannot be read`,
      checkedRows(file, metadata, group, { columns, rowStart, rows }),
    );
    for (const [i, row] of values.entries())
      yield rowImage(`${basename(path)}, row ${rowStart + i}`, row[image], label && row[label]);
    rowStart += rows;
  }
}

interface RowRange {
  readonly columns: string[];
  readonly rowStart: number;
  readonly rows: number;
}

async function checkedRows(file: AsyncBuffer, metadata: FileMetaData, group: RowGroup, range: RowRange) {
  await refuseEndlessRuns(file, metadata, group, { columns: range.columns, compressors: boundedCompressors });
  return readRows(file, metadata, range);
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
  { columns, rowStart, rows }: RowRange,
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
  try {
    return await parquetReadObjects({
      file: { byteLength: file.byteLength, slice },
      metadata,
      columns,
      rowStart,
      rowEnd: rowStart + rows,
      compressors: boundedCompressors,
      // Bytes without a text annotation must stay bytes.
      utf8: false,
    });
  } finally {
    hasEnded = true;
  }
}

/** A page states its size when unpacked: one that states too much is refused before memory is taken for it. */
const boundedCompressors: Compressors = Object.fromEntries(
  Object.entries(compressors).map(([name, unpack]) => [
    name,
    (packed: Uint8Array, length: number) => {
      if (length > MAX_ROW_GROUP_BYTES) throw new Error(`a page states ${length} bytes`);
      return unpack(packed, length);
    },
  ]),
);

function rowImage(source: string, image: unknown, label: unknown): SourceImage {
  const isStruct = image !== null && typeof image === 'object' && 'bytes' in image;
  const bytes = isStruct ? image.bytes : image;
  if (!(bytes instanceof Uint8Array)) {
    const path = isStruct && 'path' in image && typeof image.path === 'string' ? image.path : undefined;
    return { source, reason: path ? `the row names ${path}, but does not hold it` : 'the row holds no image' };
  }
  if (bytes.length > MAX_ENCODED_BYTES)
    return { source, reason: `${bytes.length} bytes are more than the ${MAX_ENCODED_BYTES} that are read` };
  return { source, label: classOf(label), encoded: bytes };
}
