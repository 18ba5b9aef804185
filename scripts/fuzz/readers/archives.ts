import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { insideGzip, sealTar } from '../mutations/containers.ts';
import { textMutations } from '../mutations/text.ts';
import { type Files, type FuzzedReader, onlyFile, single } from '../reader.ts';
import { loadFrom, picture } from './images.ts';

type LinkHeader = { name: string; type: 'symlink'; linkname: string };

async function tar(
  members: readonly (readonly [name: string | LinkHeader, content: Uint8Array | string])[],
): Promise<Buffer> {
  const packed = pack();
  for (const [name, content] of members)
    packed.entry(
      typeof name === 'string' ? { name } : name,
      typeof content === 'string' ? content : Buffer.from(content),
    );
  packed.finalize();
  const pieces: Buffer[] = [];
  for await (const piece of packed) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

async function examples(): Promise<Files[]> {
  const [png, jpeg] = [await picture().png().toBuffer(), await picture().jpeg().toBuffer()];
  const folders = await tar([
    ['cat/a.png', png],
    ['cat/b.jpg', jpeg],
    ['dog/c.png', png],
    [`${'long/'.repeat(40)}d.png`, png],
    ['notes.txt', 'not an image'],
    [{ name: 'dog/link.png', type: 'symlink', linkname: '../cat/a.png' }, ''],
  ]);
  const samples = await tar([
    ['000.png', png],
    ['000.cls', '1'],
    ['001.jpg', jpeg],
    ['001.json', '{"label": 0, "caption": "a picture"}'],
  ]);
  const record = new Uint8Array(3073).fill(7);
  return [
    single('set.tar', folders),
    single('set.tar', samples),
    single('set.tar.gz', gzipSync(folders)),
    single('set.tgz', gzipSync(samples)),
    new Map([
      ['set/000.tar', samples],
      ['set/001.tar', samples],
    ]),
    single('cifar-10-binary.tar.gz', gzipSync(await tar([['cifar-10-batches-bin/data_batch_1.bin', record]]))),
  ];
}

/** Archives of images: folders are classes, or samples as webdataset writes them. */
export const archive: FuzzedReader = {
  examples,
  read: async (folder) => loadFrom(folder, await onlyFile(folder)),
  mutations: [insideGzip(), insideGzip(textMutations)],
  seal(files) {
    for (const [name, bytes] of files) if (name.endsWith('.tar')) files.set(name, sealTar(bytes));
  },
};
