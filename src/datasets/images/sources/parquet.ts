import { basename } from 'node:path';
import type { FileMetaData } from 'hyparquet';
import { DatasetError } from '../../../errors.ts';
import * as z from '../../../zod.ts';
import { openTable, type ParquetFiles, type Table, tableRows } from '../../parquet/table.ts';
import {
  classOf,
  type ImageSource,
  labelColumnOf,
  MAX_ENCODED_BYTES,
  type SourceChoice,
  type SourceImage,
} from './image-source.ts';
import { fileStates } from './source-files.ts';

/** Names of the column of images, the first that a file has; `img` is that of the Hub's cifar10 and others. */
const IMAGE_COLUMNS = ['image', 'img'];
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
  readonly table: Table;
  /** The column of the images. */
  readonly image: string;
  /** The column of the classes, if any. */
  readonly label: string | undefined;
  readonly classNames: readonly string[] | undefined;
}

async function openParquet(path: string, choice: Pick<SourceChoice, 'labelColumn'>): Promise<OpenParquet> {
  const table = await openTable(path);
  const columns = table.columns.map(({ element }) => element.name);
  const image = imageColumn(table);
  if (image === undefined)
    throw new DatasetError(
      `${path}: has no column ${IMAGE_COLUMNS.map((column) => `'${column}'`).join(' or ')}, only ${columns.join(', ')}`,
    );
  const label = labelColumnOf(columns, choice, path);
  const names = label === undefined ? undefined : hubFeaturesOf(table.metadata)[label]?.names;
  return { table, image, label, classNames: names };
}

/** The column of images; undefined where a table has none. */
export function imageColumn({ metadata, columns: children }: Table): string | undefined {
  const columns = children.map(({ element }) => element.name);
  const features = hubFeaturesOf(metadata);
  const declared = columns.filter((column) => features[column]?._type === 'Image');
  return (
    IMAGE_COLUMNS.find((column) => (declared.length > 0 ? declared : columns).includes(column)) ??
    declared[0] ??
    children.find((column) => column.children.some(({ element }) => element.name === 'bytes'))?.element.name
  );
}

const hubFeatures = z.record(
  z.string(),
  z.object({
    _type: z.catch(z.optional(z.string()), undefined),
    names: z.catch(z.optional(z.array(z.string())), undefined),
  }),
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

async function* parquetImages({ table, image, label }: OpenParquet): AsyncGenerator<SourceImage> {
  for await (const { first, rows } of tableRows(table, [image, ...(label === undefined ? [] : [label])]))
    for (const [i, row] of rows.entries())
      yield rowImage(`${basename(table.path)}, row ${first + i}`, row[image], label && row[label]);
}

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
