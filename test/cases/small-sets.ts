import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parquetWriteBuffer } from 'hyparquet-writer';
import sharp from 'sharp';
import { pack } from 'tar-stream';
import { afterEach, beforeEach } from 'vitest';
import { loadImages } from '../../src/datasets/index.ts';

/* Small sets of images, as folders, archives and parquet files, in a temporary folder for each test. */

export const CASES = fileURLToPath(new URL('files/', import.meta.url));

export let folder: string;

/** Gives each test of the file that calls this a new `folder`. */
export function inFolderOfTest(): void {
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'iso-sources-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));
}

/** A loaded set in short, with what was said about it. */
export async function load(source: string, options: Parameters<typeof loadImages>[1] = {}) {
  const warnings: string[] = [];
  const set = await loadImages(source, {
    cache_dir: path.join(folder, 'cache'),
    resolution: 4,
    on_warning: (message) => warnings.push(message),
    ...options,
  });
  const { count, labels, classNames, skipped } = set;
  const values = Array.from({ length: count }, (_, i) => set.pixels(i)[0]);
  return { set, count, labels: labels && [...labels], classNames, skipped, warnings, values };
}

const png = (value: number) =>
  sharp({ create: { width: 4, height: 4, channels: 3, background: { r: value, g: 0, b: 0 } } })
    .png()
    .toBuffer();

/** Writes files below the test's folder; a number is a picture of that red. */
export async function files(contents: Readonly<Record<string, number | string | Uint8Array>>): Promise<string> {
  const root = path.join(folder, 'set');
  for (const [name, content] of Object.entries(contents)) {
    await mkdir(path.dirname(path.join(root, name)), { recursive: true });
    await writeFile(path.join(root, name), typeof content === 'number' ? await png(content) : content);
  }
  return root;
}

export async function tar(members: Readonly<Record<string, number | string | Uint8Array>>): Promise<Uint8Array> {
  const archive = pack();
  for (const [name, content] of Object.entries(members))
    archive.entry({ name }, typeof content === 'number' ? await png(content) : Buffer.from(content));
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

type Columns = Readonly<Record<string, readonly unknown[]>>;
/** What `datasets` writes into a parquet file about the names of classes. */
export const HUB = (names: Readonly<Record<string, readonly string[]>>) =>
  JSON.stringify({
    info: {
      features: {
        image: { _type: 'Image' },
        ...Object.fromEntries(
          Object.entries(names).map(([column, list]) => [column, { names: list, _type: 'ClassLabel' }]),
        ),
      },
    },
  });

/** A parquet file of pictures of the given reds, and further columns. */
export async function parquet(values: readonly number[], columns: Columns = {}, hub?: string): Promise<Uint8Array> {
  const images = await Promise.all(values.map(async (value) => new Uint8Array(await png(value))));
  return new Uint8Array(
    parquetWriteBuffer({
      columnData: [
        { name: 'image', data: images, type: 'BYTE_ARRAY' },
        ...Object.entries(columns).map(([name, data]) => ({ name, data: [...data] })),
      ],
      ...(hub ? { kvMetadata: [{ key: 'huggingface', value: hub }] } : {}),
    }),
  );
}
