import { dirname, join, posix } from 'node:path';
import { DatasetError, errorText, InvalidArgumentError } from '../../../errors.ts';
import { readWholeFile } from '../../../files/regular-file.ts';
import { classOf, labelColumnOf, type SourceChoice } from './image-source.ts';
import { fileStates } from './source-files.ts';

/*
 * `metadata.csv` and `metadata.jsonl` beside images, as the Hub's `imagefolder` reads them: a row an image, which
 * `file_name` names by its path from the metadata file.
 */

const MAX_BYTES = 256 * 1024 * 1024;
const FILE_NAME = 'file_name';

export function isMetadataFile(path: string): boolean {
  return /(^|\/)metadata\.(csv|jsonl)$/.test(path);
}

/** The classes that metadata files give to images. */
export interface ImageMetadata {
  /** By the image's path below the folder; undefined where no file has a column of classes. */
  readonly labels: ReadonlyMap<string, number | string | undefined> | undefined;
  /** Changes when the files do. */
  readonly state: string;
}

/**
 * Reads the metadata files of a folder.
 *
 * @param paths of the files, below the folder.
 * @throws {DatasetError} when a file is damaged.
 * @throws {InvalidArgumentError} when the label column that was asked for is in none of them.
 */
export async function readMetadata(
  folder: string,
  paths: readonly string[],
  choice: Pick<SourceChoice, 'labelColumn' | 'warn'>,
): Promise<ImageMetadata> {
  const { labelColumn, warn } = choice;
  const labels = new Map<string, number | string | undefined>();
  let hasLabels = false;
  for (const path of paths) {
    const where = join(folder, path);
    const bytes = await readWholeFile(where, MAX_BYTES, DatasetError);
    const rows = path.endsWith('.csv') ? await csvRows(bytes, where) : jsonRows(bytes, where);
    const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
    if (!columns.includes(FILE_NAME)) {
      warn(`${where} is not used: it has no column '${FILE_NAME}', only ${columns.join(', ')}`);
      continue;
    }
    const column = labelColumnOf(columns, choice, where);
    if (column === undefined) continue;
    hasLabels = true;
    for (const row of rows)
      labels.set(posix.normalize(posix.join(dirname(path), String(row[FILE_NAME]))), classOf(row[column]));
  }
  if (labelColumn !== undefined && !hasLabels)
    throw new InvalidArgumentError(
      `label_column is '${labelColumn}', but ${folder} has no metadata.csv or metadata.jsonl with such a column`,
    );
  const state = await fileStates(paths.map((path) => join(folder, path)));
  return { labels: hasLabels ? labels : undefined, state };
}

type Row = Readonly<Record<string, unknown>>;

async function csvRows(bytes: Uint8Array, where: string): Promise<Row[]> {
  const { parse } = await import('#csv');
  try {
    return parse(Buffer.from(bytes), { columns: true, bom: true, skip_empty_lines: true, trim: true });
  } catch (cause) {
    throw new DatasetError(`${where} is not CSV: ${errorText(cause)}`, { cause });
  }
}

function jsonRows(bytes: Uint8Array, where: string): Row[] {
  const lines = new TextDecoder().decode(bytes).split('\n');
  return lines.flatMap((line, index) => {
    if (line.trim() === '') return [];
    try {
      return [Object(JSON.parse(line))];
    } catch (cause) {
      throw new DatasetError(`${where}, line ${index + 1}, is not JSON: ${errorText(cause)}`, { cause });
    }
  });
}
