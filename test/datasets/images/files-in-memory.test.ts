import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, expect, it } from 'vitest';
import { loadImages } from '../../../src/datasets/index.ts';
import { DatasetError, InvalidArgumentError } from '../../../src/errors.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-files-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const options = {
  resolution: 6,
  channels: 3,
  cache_dir: path.join(folder, 'cache'),
  on_warning: () => undefined,
} as const;

/** A file as an `<input webkitdirectory>` gives it. */
function fileAt(name: string, content: Uint8Array): File {
  const file = new File([new Uint8Array(content)], path.basename(name));
  Object.defineProperty(file, 'webkitRelativePath', { value: name });
  return file;
}

it('image files in memory give the set of the same files in a folder, whatever their order', async () => {
  const files: File[] = [];
  for (const [i, name] of ['set/cats/a.png', 'set/cats/b.png', 'set/dogs/c.png', 'set/notes.txt'].entries()) {
    const pixels = Uint8Array.from({ length: 8 * 9 * 3 }, (_, at) => (at * 37 + i * 101) % 256);
    const png = await sharp(pixels, { raw: { height: 8, width: 9, channels: 3 } })
      .png()
      .toBuffer();
    const content = name.endsWith('.png') ? png : new TextEncoder().encode('notes');
    mkdirSync(path.join(folder, path.dirname(name)), { recursive: true });
    writeFileSync(path.join(folder, name), content);
    files.unshift(fileAt(name.replace(/^set\//, ''), content));
  }
  const expected = await loadImages(path.join(folder, 'set'), options);
  const set = await loadImages(files, options);
  expect(set).toMatchObject({ count: 3, classNames: ['cats', 'dogs'], fingerprint: expected.fingerprint });
  expect(set.skipped).toEqual(expected.skipped);
});

it('refuses what is no list of image files', async () => {
  await expect(loadImages([], options)).rejects.toThrow(InvalidArgumentError);
  await expect(loadImages(['a.png'] as never, options)).rejects.toThrow(
    'must be a text, or a list of one or more files',
  );
  await expect(loadImages([new Blob(['text'])], options)).rejects.toThrow(DatasetError);
});
