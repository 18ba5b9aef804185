import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { parquetWriteBuffer } from 'hyparquet-writer';
import sharp from 'sharp';
import { pack } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  fetchArchive,
  OXFORD_SETS,
  type OxfordSet,
  oxfordSource,
} from '../../../src/datasets/images/sources/oxford.ts';
import { DownloadError, loadImages } from '../../../src/datasets/index.ts';
import { DatasetError } from '../../../src/errors.ts';

let folder: string;
let server: Server;
let origin: string;
let archive: Buffer;
let answer: { status: number; body: Buffer; cut?: boolean };
let requests: number;

const png = (value: number) =>
  sharp({ create: { width: 4, height: 4, channels: 3, background: { r: value, g: 0, b: 0 } } })
    .png()
    .toBuffer();

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'iso-published-'));
  const members = pack();
  members.entry({ name: 'images/great_pyrenees_2.jpg' }, await png(20));
  members.entry({ name: 'images/Abyssinian_1.jpg' }, await png(10));
  members.entry({ name: 'images/Abyssinian_100.mat' }, 'not an image');
  members.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of members) chunks.push(chunk as Buffer);
  archive = gzipSync(Buffer.concat(chunks));
  answer = { status: 200, body: archive };
  requests = 0;
  server = createServer((_request, response) => {
    requests++;
    response.writeHead(answer.status, { 'content-length': answer.body.length });
    if (answer.cut) response.write(answer.body.subarray(0, 40), () => response.destroy());
    else response.end(answer.body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await rm(folder, { recursive: true, force: true });
});

/** Oxford-IIIT Pet as it is, but for where it is and what its checksum is. */
function pet(): OxfordSet {
  const [real] = OXFORD_SETS.filter(({ name }) => name === 'oxford-iiit-pet');
  if (!real) throw new Error('the set is gone');
  const md5 = createHash('md5').update(archive).digest('hex');
  return { ...real, url: `${origin}/images.tar.gz`, md5 };
}

async function labelsOf(set: OxfordSet, dataDir?: string): Promise<unknown[]> {
  const source = await oxfordSource(set, {
    cacheDir: folder,
    dataDir,
    split: undefined,
    labelColumn: undefined,
    warn: () => undefined,
  });
  const labels = [];
  for await (const image of source.images()) labels.push('label' in image ? image.label : image);
  return labels;
}

describe('the archives of Oxford', () => {
  it('are downloaded once, and their file names tell the classes', async () => {
    expect(await labelsOf(pet())).toEqual(['great_pyrenees', 'Abyssinian']);
    expect(await labelsOf(pet())).toEqual(['great_pyrenees', 'Abyssinian']);
    expect(requests).toBe(1);
    expect(await readFile(path.join(folder, 'downloads/oxford-iiit-pet/images.tar.gz'))).toEqual(archive);
  });

  it('are taken from data_dir, checked', async () => {
    const local = path.join(folder, 'local');
    await mkdir(local);
    await expect(labelsOf(pet(), local)).rejects.toThrow(/images.tar.gz does not exist: fetch http/);
    await writeFile(path.join(local, 'images.tar.gz'), archive);
    expect(await labelsOf(pet(), local)).toEqual(['great_pyrenees', 'Abyssinian']);
    await writeFile(path.join(local, 'images.tar.gz'), archive.subarray(1));
    await expect(labelsOf(pet(), local)).rejects.toThrow(/not the published file/);
    expect(requests).toBe(0);
  });

  it.each([
    ['404', { status: 404, body: Buffer.from('gone') }, /answered 404/],
    ['another file', { status: 200, body: Buffer.from('<html>') }, /the content has the md5 .* is published/],
    ['a cut connection', { status: 200, body: Buffer.alloc(100_000), cut: true }, /the connection broke 5 times/],
  ])('%s: says what to fetch and where to put it, and leaves no archive', async (_what, given, message) => {
    answer = given;
    const failing = labelsOf(pet());
    await expect(failing).rejects.toThrow(DownloadError);
    await expect(failing).rejects.toThrow(message);
    await expect(failing).rejects.toThrow(/images.tar.gz by other means and put it at .*downloads/);
    const files = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((file) => file.isFile());
    expect(files.map(({ name }) => name)).toEqual('cut' in given ? ['images.tar.gz.incomplete'] : []);
  });

  it('cannot be reached', async () => {
    const file = { url: 'http://127.0.0.1:9/x.tgz', md5: '0'.repeat(32) };
    await expect(fetchArchive(file, path.join(folder, 'x.tgz'))).rejects.toThrow(DownloadError);
  });
});

/** A parquet file as `datasets` writes images: `image` is a struct of bytes and path. */
async function hubParquet(values: readonly (number | null)[], labels: readonly number[]): Promise<Uint8Array> {
  const image = await Promise.all(
    values.map(async (value, i) =>
      value === null ? null : { bytes: new Uint8Array(await png(value)), path: `${i}.png` },
    ),
  );
  return new Uint8Array(
    parquetWriteBuffer({
      columnData: [
        { name: 'image', data: image },
        { name: 'label', data: labels.map(BigInt) },
      ],
      schema: [
        { name: 'root', num_children: 2 },
        { name: 'image', num_children: 2, repetition_type: 'OPTIONAL' },
        { name: 'bytes', type: 'BYTE_ARRAY', repetition_type: 'OPTIONAL' },
        { name: 'path', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
        { name: 'label', type: 'INT64', repetition_type: 'OPTIONAL' },
      ],
      rowGroupSize: 2,
    }),
  );
}

describe("the Hub's parquet files", () => {
  const load = (source: string, options = {}) =>
    loadImages(source, { resolution: 4, cache_dir: path.join(folder, 'cache'), ...options });

  it('with images as structs, several files and row groups, rows without image listed', async () => {
    const data = path.join(folder, 'data');
    await mkdir(data);
    await writeFile(path.join(data, 'train-00000-of-00002.parquet'), await hubParquet([10, null, 30], [2, 0, 1]));
    await writeFile(path.join(data, 'train-00001-of-00002.parquet'), await hubParquet([40], [5]));
    const set = await load(data);
    expect([set.count, set.labels]).toEqual([3, Int32Array.of(2, 1, 5)]);
    expect([0, 1, 2].map((i) => set.pixels(i)[0])).toEqual([10, 30, 40]);
    expect(set.skipped).toEqual([{ source: 'train-00000-of-00002.parquet, row 1', reason: 'the row holds no image' }]);
  });

  it.each(['oxford-flowers-102', 'oxford-iiit-pet'])('stand in for the archive of %s in data_dir', async (name) => {
    const data = path.join(folder, 'data');
    await mkdir(data);
    await expect(load(name, { data_dir: data })).rejects.toThrow(DatasetError);
    await writeFile(path.join(data, 'train.parquet'), await hubParquet([10, 20], [0, 101]));
    const set = await load(name, { data_dir: data });
    expect([set.name, set.count, set.labels]).toEqual([name, 2, Int32Array.of(0, 101)]);
  });
});
