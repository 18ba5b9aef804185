import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import sharp from 'sharp';
import { pack } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadImages, loadPoints } from '../../src/datasets/index.ts';
import { DatasetError, IsoDiffusionError } from '../../src/errors.ts';
import { readSafetensors } from '../../src/files/safetensors.ts';
import { readStatistics } from '../../src/metrics/index.ts';
import { OnnxModel } from '../../src/models/index.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'iso-known-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const load = (name: string) => loadImages(path.join(folder, name), { cache_dir: path.join(folder, 'cache') });

describe('a git-lfs pointer is called one', () => {
  const pointer = fileURLToPath(new URL('files/st-lfs-pointer/diffusion_pytorch_model.safetensors', import.meta.url));

  it.each<[string, (file: string) => Promise<unknown>]>([
    ['model.safetensors', readSafetensors],
    ['model.onnx', (file) => OnnxModel.fromFile(file)],
    ['points.csv', (file) => loadPoints(file)],
    ['points.npy', (file) => loadPoints(file)],
    ['statistics.npz', readStatistics],
    ['set.parquet', (file) => load(path.basename(file))],
    ['set.tar', (file) => load(path.basename(file))],
    ['set.tar.gz', (file) => load(path.basename(file))],
    ['train-images-idx3-ubyte', (file) => load(path.basename(file))],
    ['train-images-idx3-ubyte.gz', (file) => load(path.basename(file))],
    ['data_batch_1.bin', (file) => load(path.basename(file))],
  ])('%s', async (name, read) => {
    const file = path.join(folder, name);
    await copyFile(pointer, file);
    const error = await read(file).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(IsoDiffusionError);
    expect(String(error)).toMatch(/is a git-lfs pointer, not the file itself/);
    expect(String(error)).toContain(name);
  });
});

describe('an archive by another name', () => {
  const tar = async () => {
    const archive = pack();
    const pixels = new Uint8Array(8 * 8 * 3).fill(90);
    archive.entry(
      { name: 'a.png' },
      await sharp(pixels, { raw: { width: 8, height: 8, channels: 3 } })
        .png()
        .toBuffer(),
    );
    archive.finalize();
    const chunks: Buffer[] = [];
    for await (const chunk of archive) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  };

  it('is read where it is gzip or is not, as it is', async () => {
    await writeFile(path.join(folder, 'a.tar'), gzipSync(await tar()));
    await writeFile(path.join(folder, 'b.tgz'), await tar());
    expect((await load('a.tar')).count).toBe(1);
    expect((await load('b.tgz')).count).toBe(1);
  });

  it.each([
    ['a.tar', 'PK\x03\x04', /a\.tar is a zip file/],
    ['a.tar.gz', 'BZh91AY&SY', /a\.tar\.gz is a bzip2 file/],
    ['a.tar', '<!DOCTYPE html><html>', /a\.tar is an HTML page/],
    ['a.parquet', '\x1f\x8b\x08', /a\.parquet: is not a parquet file but a gzip file/],
  ])('%s: the error says what it is', async (name, begins, message) => {
    await writeFile(path.join(folder, name), Buffer.concat([Buffer.from(begins, 'latin1'), Buffer.alloc(2000, 65)]));
    const error = await load(name).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(DatasetError);
    expect(String(error)).toMatch(message);
  });
});

describe('a web page or an archive in place of the file', () => {
  it.each<[string, (file: string) => Promise<unknown>]>([
    ['model.safetensors', readSafetensors],
    ['model.onnx', (file) => OnnxModel.fromFile(file)],
    ['points.csv', (file) => loadPoints(file)],
    ['points.npy', (file) => loadPoints(file)],
    ['statistics.npz', readStatistics],
    ['train-images-idx3-ubyte', (file) => load(path.basename(file))],
    ['data_batch_1.bin', (file) => load(path.basename(file))],
  ])('%s: the error says so', async (name, read) => {
    const file = path.join(folder, name);
    for (const [begins, message] of [
      ['<!DOCTYPE html><html><body>404</body>', /an HTML page, as a server sends/],
      ['\x89HDF\r\n\x1a\n', /an HDF5 file/],
    ] as const) {
      await writeFile(file, Buffer.concat([Buffer.from(begins, 'latin1'), Buffer.alloc(2000)]));
      const error = await read(file).catch((cause: unknown) => cause);
      expect(error).toBeInstanceOf(IsoDiffusionError);
      expect(String(error)).toMatch(message);
    }
  });

  it('a column of points may be called as a file of another kind begins', async () => {
    await writeFile(path.join(folder, 'points.csv'), 'PAR1,PAR2\n1,2\n3,4\n');
    expect((await loadPoints(path.join(folder, 'points.csv'))).count).toBe(2);
  });
});
