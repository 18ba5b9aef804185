import { readdir } from 'node:fs/promises';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { type ParquetWriteOptions, parquetWriteBuffer, type SchemaElement } from 'hyparquet-writer';
import { insideGzip } from '../mutations/containers.ts';
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

/** CIFAR's binary version. */
export const cifar: FuzzedReader = {
  examples: async () => [
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
