import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { type ParquetWriteOptions, parquetWriteBuffer, type SchemaElement } from 'hyparquet-writer';
import { cacheFileBytes, openCacheFile } from '../../../src/datasets/images/cache-file.ts';
import { DatasetError } from '../../../src/errors.ts';
import { insideGzip } from '../mutations/containers.ts';
import { type Mutation, pick } from '../mutations/mutation.ts';
import { changeJson, textMutations } from '../mutations/text.ts';
import { type Files, type FuzzedReader, onlyFile, single } from '../reader.ts';
import { loadFrom, picture } from './images.ts';

/* Sets of images in files of their own formats. */

function idxBytes(magic: number, sizes: readonly number[], length: number): Uint8Array {
  const header = Buffer.alloc(4 + 4 * sizes.length);
  for (const [i, value] of [magic, ...sizes].entries()) header.writeUInt32BE(value, 4 * i);
  return Buffer.concat([header, Uint8Array.from({ length }, (_, i) => i % 10)]);
}

const idxImages = idxBytes(0x803, [3, 4, 5], 60);
const idxLabels = idxBytes(0x801, [3], 3);

/** MNIST's files. */
export const idx: FuzzedReader = {
  examples: async () => [
    new Map([
      ['train-images-idx3-ubyte', idxImages],
      ['train-labels-idx1-ubyte', idxLabels],
    ]),
    new Map([
      ['train-images-idx3-ubyte.gz', gzipSync(idxImages)],
      ['train-labels-idx1-ubyte.gz', gzipSync(idxLabels)],
    ]),
  ],
  async read(folder) {
    const name = (await readdir(folder)).find((file) => file.includes('images'));
    return loadFrom(folder, name ?? '.');
  },
  mutations: [insideGzip()],
};

const record = Uint8Array.from({ length: 3073 }, (_, i) => (i === 0 ? 4 : i % 251));

const cases = new URL('../../../test/cases/files/', import.meta.url);

/** CIFAR's binary version, and the pickles of the one for Python. */
export const cifar: FuzzedReader = {
  examples: async () => [
    single('set/data_batch_1', await readFile(new URL('cifar-pickles/python-2', cases))),
    single('set/data_batch_1', await readFile(new URL('cifar-pickles/protocol-2', cases))),
    single('set/data_batch_1', await readFile(new URL('cifar-pickles/protocol-5', cases))),
    single('set/cifar-100-python/train', await readFile(new URL('cifar-pickles/hundred', cases))),
    single('set/data_batch_1.bin', Buffer.concat([record, record])),
    new Map([
      ['set/data_batch_1.bin', record],
      ['set/data_batch_2.bin', record],
      ['set/batches.meta.txt', Buffer.from('airplane\nautomobile\n')],
    ]),
  ],
  read: (folder) => loadFrom(folder, 'set'),
};

const optional = { repetition_type: 'OPTIONAL' } as const;
const text = { type: 'BYTE_ARRAY', converted_type: 'UTF8' } as const;

/** Rows as `datasets` writes images, one without an image; `labels` is one column or none. */
async function parquetFile(
  labels: readonly { data: unknown[]; element: SchemaElement }[],
  options: Pick<ParquetWriteOptions, 'codec' | 'compressors'>,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(await picture().png().toBuffer());
  const images = [bytes, null, bytes, bytes].map((file, i) => file && { bytes: file, path: `${i}.png` });
  const schema: SchemaElement[] = [
    { name: 'root', num_children: 1 + labels.length },
    { name: 'image', num_children: 2, ...optional },
    { name: 'bytes', type: 'BYTE_ARRAY', ...optional },
    { name: 'path', ...text, ...optional },
    ...labels.map(({ element }) => element),
  ];
  const columnData = [{ name: 'image', data: images }, ...labels.map(({ data }) => ({ name: 'label', data }))];
  return new Uint8Array(parquetWriteBuffer({ columnData, schema, rowGroupSize: 2, ...options }));
}

const numberLabels = { data: [0n, 1n, 2n, null], element: { name: 'label', type: 'INT64' as const, ...optional } };
const nameLabels = { data: ['cat', 'dog', 'cat', 'dog'], element: { name: 'label', ...text, ...optional } };
const compressors = {
  GZIP: (bytes: Uint8Array) => new Uint8Array(gzipSync(bytes)),
  BROTLI: (bytes: Uint8Array) => new Uint8Array(brotliCompressSync(bytes)),
};

/** The Hub's parquet files. */
export const parquet: FuzzedReader = {
  examples: async () => [
    single('set.parquet', await parquetFile([numberLabels], { codec: 'SNAPPY' })),
    single('set.parquet', await parquetFile([nameLabels], { codec: 'UNCOMPRESSED' })),
    single('set.parquet', await parquetFile([nameLabels], { codec: 'GZIP', compressors })),
    single('set.parquet', await parquetFile([], { codec: 'BROTLI', compressors })),
    // As pyarrow writes it, with zstd.
    single('set.parquet', await readFile(new URL('parquet-strlabel.parquet', cases))),
  ],
  read: async (folder) => loadFrom(folder, await onlyFile(folder)),
};

/** Folders of images with what describes them. */
export const folder: FuzzedReader = {
  async examples() {
    const png = await picture().png().toBuffer();
    const images: Files = new Map([
      ['set/cat/a.png', png],
      ['set/dog/b.png', png],
    ]);
    const flat: Files = new Map([
      ['set/a.png', png],
      ['set/b.png', png],
    ]);
    const labels = '{"file_name": "a.png", "label": 1}\n{"file_name": "b.png", "label": 0}\n';
    return [
      images,
      new Map([...flat, ['set/metadata.jsonl', Buffer.from(labels)]]),
      new Map([...flat, ['set/metadata.csv', Buffer.from('file_name,label\na.png,cat\nb.png,dog\n')]]),
    ];
  },
  read: (where) => loadFrom(where, 'set', true),
  mutations: [changeJson, ...textMutations].map(
    (mutation) => (bytes, stream, file) => (file.name.endsWith('.png') ? undefined : mutation(bytes, stream, file)),
  ),
};

async function cacheFile(randomCrop: boolean): Promise<Uint8Array> {
  const geometry = { name: 'set', height: 2, width: 2, channels: 1, randomCrop } as const;
  const pieces: Uint8Array[] = [];
  const images = (async function* () {
    yield { source: 'a.png', label: 'cat', pixels: new Uint8Array(4), height: 2, width: 2 };
    yield { source: 'b.png', label: 'dog', pixels: new Uint8Array(4), height: 2, width: 2 };
    yield { source: 'c.png', reason: 'not an image' };
  })();
  for await (const piece of cacheFileBytes(geometry, images)) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** A change of the JSON at the end of a cache file, whose length is made right. */
const changeDescription: Mutation = (bytes, stream, file) => {
  if (bytes.length < 12) return undefined;
  const end = bytes.length - 12;
  const begin = end - Buffer.from(bytes).readUInt32LE(end);
  const changed =
    begin < 0 ? undefined : pick(stream, [changeJson, ...textMutations])(bytes.subarray(begin, end), stream, file);
  if (changed === undefined) return undefined;
  const length = Buffer.alloc(4);
  length.writeUInt32LE(changed.length);
  return Buffer.concat([bytes.subarray(0, begin), changed, length, bytes.subarray(end + 4)]);
};

/** The files in which resized images are kept. Damaged ones are made anew. */
export const imageCache: FuzzedReader = {
  examples: async () => [single('a.images', await cacheFile(false)), single('a.images', await cacheFile(true))],
  async read(where) {
    for (const inMemory of [0, 2 ** 30]) {
      const set = await openCacheFile(path.join(where, await onlyFile(where)), inMemory);
      if (!set) throw new DatasetError('a damaged file');
      for (let i = 0; i < set.count; i++) set.pixels(i);
    }
  },
  mutations: [changeDescription],
};
