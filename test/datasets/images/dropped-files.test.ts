import { expect, it } from 'vitest';
import { type DroppedItem, droppedFiles } from '../../../src/datasets/index.ts';
import { DatasetError } from '../../../src/errors.ts';

type Tree = { readonly [name: string]: string | Tree };

/** An entry as browsers give them, whose folders answer with two names at a time. */
function entry(name: string, content: string | Tree, parent = ''): FileSystemEntry {
  const fullPath = `${parent}/${name}`;
  if (typeof content === 'string') {
    const file = (use: (file: File) => void, refuse: (error: Error) => void) =>
      content === 'locked' ? refuse(new Error('no permission')) : use(new File([content], name));
    return { isFile: true, isDirectory: false, name, fullPath, file } as unknown as FileSystemEntry;
  }
  const left = Object.entries(content).map(([each, inner]) => entry(each, inner, fullPath));
  const createReader = () => ({ readEntries: (use: (entries: FileSystemEntry[]) => void) => use(left.splice(0, 2)) });
  return { isFile: false, isDirectory: true, name, fullPath, createReader } as unknown as FileSystemEntry;
}

/** What an event has, until the handler waits. */
function dropped(tree: Tree): DroppedItem[] {
  const items = Object.entries(tree).map(([name, content]) => ({ webkitGetAsEntry: () => entry(name, content) }));
  queueMicrotask(() => items.splice(0));
  return items;
}

it('finds the files of folders, with their paths', async () => {
  const files = await droppedFiles(
    dropped({ animals: { cats: { 'a.png': 'a', 'b.png': 'b', 'c.png': 'c' }, dogs: { 'd.png': 'd' } }, 'e.png': 'e' }),
  );
  const found = await Promise.all(files.map(async (file) => [file.webkitRelativePath ?? '', await file.text()]));
  expect(found).toEqual([
    ['animals/cats/a.png', 'a'],
    ['animals/cats/b.png', 'b'],
    ['animals/cats/c.png', 'c'],
    ['animals/dogs/d.png', 'd'],
    ['', 'e'],
  ]);
});

it('says which file cannot be read', async () => {
  const error = await droppedFiles(dropped({ folder: { 'a.png': 'locked' } })).catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(DatasetError);
  expect(String(error)).toContain('/folder/a.png cannot be read: no permission');
});
