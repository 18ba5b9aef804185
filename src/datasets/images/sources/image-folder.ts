import { stat } from 'node:fs';
import { join } from 'node:path';
import { notAnImageName } from '../formats/image-formats.ts';
import {
  folderLabel,
  GENERATION_RECORD_FILE,
  type ImageSource,
  type SourceChoice,
  type SourceImage,
} from './image-source.ts';
import { isMetadataFile, readMetadata } from './metadata.ts';
import { anyOf, chosenSplit, splitsByFolder } from './splits.ts';

/** More than libuv has threads: the calling thread need not be asked after each. */
const STATES_AT_A_TIME = 64;

/** A file below a folder. */
export interface FolderFile {
  /** Path below the folder, with '/'. */
  readonly path: string;
  readonly isImage: boolean;
  /** Why it cannot be read, where that is known. */
  readonly reason?: string | undefined;
}

/**
 * Every image file of a folder and below, in the order of paths; other files are listed as skipped. Its class is in a
 * `metadata.csv` or `metadata.jsonl`, or is the sub-folder it is in. Folders may be splits.
 *
 * @throws {DatasetError} when a metadata file is damaged.
 */
export async function imageFolderSource(
  folder: string,
  files: readonly FolderFile[],
  choice: SourceChoice,
): Promise<ImageSource> {
  const images = files.filter(({ isImage }) => isImage);
  const others = files
    .filter(({ path, isImage }) => !isImage && !isMetadataFile(path) && path !== GENERATION_RECORD_FILE)
    .map((file) => ({ reason: notAnImageName(file.path), ...file }));
  const folders = splitsByFolder(
    images.map(({ path }) => path),
    choice,
  );
  const chosen = chosenSplit(folder, images, ({ path }) => folders.splitOf(path), choice);
  const isInSplit = ({ path }: FolderFile) => folders.splitOf(path) !== undefined;
  const inSplits = chosen.every(isInSplit) ? images.filter(isInSplit) : images;
  const metadataFiles = files.map(({ path }) => path).filter(isMetadataFile);
  const { labels, state } = await readMetadata(folder, metadataFiles, choice);
  const labelOf = (path: string) => (labels ? labels.get(path) : folderLabel(folders.withoutSplits(path)));
  if (labels) warnOfGaps(folder, labels, { chosen, images }, choice);
  const states = await fileStates(
    folder,
    chosen.map(({ path }) => path),
  );
  const isOfSplits = anyOf(chosen.map(({ path }) => folders.splitOf(path)));
  const skipped = others.filter(({ path }) => isOfSplits(folders.splitOf(path)));
  // Of all splits: a class has the same number in each.
  const classNames = namesOf(inSplits.map(({ path }) => labelOf(path)));
  return {
    name: folder,
    total: chosen.length + skipped.length,
    classNames,
    cacheKey: JSON.stringify([folder, states, skipped.map(({ path }) => path), classNames, choice.labelColumn, state]),
    images: () => imagesOf(folder, [...chosen, ...skipped], labelOf),
  };
}

type FileState = [path: string, size: number, mtimeMs: number];

/** What changes when a file is rewritten; 0 where it cannot be read. By callbacks: a promise for each file would take most of the time. */
function fileStates(folder: string, paths: readonly string[]): Promise<FileState[]> {
  return new Promise((resolve) => {
    const states: FileState[] = [];
    const queue = paths.entries();
    let asked = 0;
    const askNext = () => {
      const { value, done } = queue.next();
      if (done) {
        if (asked === 0) resolve(states);
        return;
      }
      const [i, path] = value;
      asked += 1;
      stat(join(folder, path), (error, status) => {
        asked -= 1;
        states[i] = error ? [path, 0, 0] : [path, status.size, status.mtimeMs];
        askNext();
      });
    };
    for (let i = 0; i < STATES_AT_A_TIME; i++) askNext();
  });
}

/** Says which images have no row in the metadata, and which rows have no image. */
function warnOfGaps(
  folder: string,
  labels: ReadonlyMap<string, unknown>,
  { chosen, images }: { readonly chosen: readonly FolderFile[]; readonly images: readonly FolderFile[] },
  { warn }: Pick<SourceChoice, 'warn'>,
): void {
  const unknown = chosen.filter(({ path }) => labels.get(path) === undefined);
  if (unknown.length > 0)
    warn(
      `${folder}: ${unknown.length} of ${chosen.length} images have no class in the metadata, such as ${unknown[0]?.path}`,
    );
  const there = new Set(images.map(({ path }) => path));
  const missing = [...labels.keys()].filter((path) => !there.has(path));
  if (missing.length > 0)
    warn(
      `${folder}: ${missing.length} of ${labels.size} rows of the metadata name no image there, such as ${missing[0]}`,
    );
}

function namesOf(labels: readonly (number | string | undefined)[]): string[] | undefined {
  const names = new Set(labels.filter((label) => typeof label === 'string'));
  return names.size > 0 ? [...names].sort() : undefined;
}

function* imagesOf(
  folder: string,
  files: readonly FolderFile[],
  labelOf: (path: string) => number | string | undefined,
): Generator<SourceImage> {
  for (const { path, reason } of files)
    yield reason === undefined
      ? { source: path, label: labelOf(path), path: join(folder, path) }
      : { source: path, reason };
}
