import { InvalidArgumentError } from '../../../errors.ts';
import { isImageName, notAnImageName } from '../formats/image-formats.ts';
import {
  folderLabel,
  type ImageSource,
  isHiddenPath,
  labelColumnOf,
  MAX_ENCODED_BYTES,
  type SourceChoice,
  type SourceImage,
} from './image-source.ts';
import { requireSplit } from './splits.ts';

/**
 * Image files in memory, such as those that a user dropped on a page, in the order of their paths. The folder in
 * `webkitRelativePath` is the class; a set of one folder has none.
 *
 * @throws {InvalidArgumentError} when there is no file, or a split is asked for.
 */
export function filesSource(files: readonly Blob[], choice: SourceChoice): ImageSource {
  if (files.length === 0 || !files.every((file) => file instanceof Blob))
    throw new InvalidArgumentError('the images must be a text, or a list of one or more files (File or Blob)');
  const name = `${files.length} files`;
  requireSplit(name, choice);
  labelColumnOf([], choice, name);
  const named = files
    .map((file, i) => ({ file, path: pathOf(file) ?? `file ${i}`, hasName: pathOf(file) !== undefined }))
    .filter(({ path }) => !isHiddenPath(path))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  return { name, total: named.length, images: () => readFiles(named) };
}

function pathOf(file: Blob): string | undefined {
  if (!('name' in file) || typeof file.name !== 'string') return undefined;
  const { webkitRelativePath: path } = file as File;
  return path || file.name;
}

async function* readFiles(
  files: readonly { readonly file: Blob; readonly path: string; readonly hasName: boolean }[],
): AsyncGenerator<SourceImage> {
  for (const { file, path, hasName } of files) {
    if (hasName && !isImageName(path)) yield { source: path, reason: notAnImageName(path) };
    else if (file.size > MAX_ENCODED_BYTES)
      yield { source: path, reason: `it has ${file.size} bytes, more than the ${MAX_ENCODED_BYTES} that are read` };
    else yield { source: path, label: folderLabel(path), encoded: new Uint8Array(await file.arrayBuffer()) };
  }
}
