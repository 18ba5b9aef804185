import { spawnSync } from 'node:child_process';
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { DatasetError } from '../../src/errors.ts';
import { CASES, files, folder, inFolderOfTest, load, parquet, tar } from './small-sets.ts';

inFolderOfTest();

/* MNIST and CIFAR as they are downloaded, folders of other things, and damaged parquet files. */

describe('folders of data files', () => {
  const idx = (kind: number, sizes: readonly number[], bytes: readonly number[]) => {
    const header = Buffer.alloc(4 + 4 * sizes.length);
    header.writeUInt32BE(kind);
    for (const [i, size] of sizes.entries()) header.writeUInt32BE(size, 4 + 4 * i);
    return Buffer.concat([header, Buffer.from(bytes)]);
  };

  it("MNIST's (folder-mnist)", async () => {
    const source = path.join(CASES, 'folder-mnist');
    const { set, count, labels, warnings } = await load(source, { resolution: undefined });
    expect([count, set.channels, labels, warnings.length]).toEqual([3, 1, [0, 1, 2], 1]);
    expect((await load(source, { split: 'test' })).count).toBe(3);
  });

  it("MNIST's as torchvision leaves it, packed and unpacked; several sets are named", async () => {
    const images = idx(0x803, [2, 1, 1], [5, 6]);
    const labels = idx(0x801, [2], [1, 0]);
    const raw = 'MNIST/raw/train-';
    const root = await files({
      [`${raw}images-idx3-ubyte`]: images,
      [`${raw}images-idx3-ubyte.gz`]: gzipSync(images),
      [`${raw}labels-idx1-ubyte`]: labels,
      [`${raw}labels-idx1-ubyte.gz`]: gzipSync(labels),
    });
    expect((await load(root)).labels).toEqual([1, 0]);
    await files({ 'FashionMNIST/raw/train-images-idx3-ubyte': images });
    await expect(load(root)).rejects.toThrow(/several sets, FashionMNIST\/raw\/train-images-idx3-ubyte, MNIST/);
  });

  const record = (...bytes: number[]) =>
    Buffer.concat([Buffer.from(bytes), Buffer.alloc(1024, 11), Buffer.alloc(2048, 22)]);
  const pickles = path.join(CASES, 'cifar-pickles');

  it("CIFAR's, the binary version, its splits and its names", async () => {
    const root = await files({
      'cifar-10-batches-bin/data_batch_1.bin': record(6),
      'cifar-10-batches-bin/data_batch_2.bin': record(9),
      'cifar-10-batches-bin/test_batch.bin': record(3),
      'cifar-10-batches-bin/batches.meta.txt': 'airplane',
    });
    const { labels, classNames, values, warnings } = await load(root);
    expect([labels, values, classNames?.[6], warnings.length]).toEqual([[6, 9], [11, 11], 'frog', 1]);
    expect((await load(root, { split: 'test' })).labels).toEqual([3]);
    const hundred = path.join(await files({ 'cifar-100-binary/train.bin': record(11, 19) }), 'cifar-100-binary');
    expect((await load(path.join(hundred, 'train.bin'))).labels).toEqual([19]);
    const coarse = await load(hundred, { label_column: 'coarse_label' });
    expect([coarse.labels, coarse.classNames?.[11]]).toEqual([[11], 'large_omnivores_and_herbivores']);
    await expect(load(root)).rejects.toThrow(/several sets, in cifar-10-batches-bin, cifar-100-binary/);
  });

  // Made by numpy 2.4 and Python 3.11; `python-2` has the layout of the published files, as cPickle wrote them.
  it.each(['python-2', 'protocol-2', 'protocol-4', 'protocol-5'])("CIFAR's for Python: %s", async (name) => {
    const root = await files({});
    await cp(path.join(pickles, name), path.join(root, 'cifar-10-batches-py/data_batch_1'));
    const { set, labels, classNames } = await load(root, { resolution: undefined });
    expect([labels, classNames?.length]).toEqual([[6, 9], 10]);
    expect([...set.pixels(0).subarray(0, 3), ...set.pixels(1).subarray(3, 6)]).toEqual([11, 22, 33, 1, 1, 1]);
  });

  it("CIFAR's archives for Python, of 10 and of 100 classes", async () => {
    const read = (name: string) => readFile(path.join(pickles, name));
    const root = await files({
      'cifar-10-python.tar.gz': gzipSync(
        await tar({
          'cifar-10-batches-py/data_batch_1': await read('python-2'),
          'cifar-10-batches-py/test_batch': await read('protocol-4'),
          'cifar-10-batches-py/readme.html': '',
        }),
      ),
      'b/cifar-100-python.tar.gz': gzipSync(await tar({ 'cifar-100-python/train': await read('hundred') })),
    });
    expect((await load(path.join(root, 'cifar-10-python.tar.gz'))).labels).toEqual([6, 9]);
    const fine = await load(path.join(root, 'b'));
    expect([fine.labels, fine.classNames?.[19]]).toEqual([[19, 99], 'cattle']);
    const coarse = await load(path.join(root, 'b'), { label_column: 'coarse_label' });
    expect(coarse.labels).toEqual([11, 13]);
    await expect(load(root)).rejects.toThrow(
      /several sets, b\/cifar-100-python.tar.gz, cifar-10-python.tar.gz: give one/,
    );
  });

  it('a pickle that would call a function is refused, and nothing is called', async () => {
    const root = await files({});
    await cp(path.join(pickles, 'hostile'), path.join(root, 'data_batch_1'));
    await expect(load(root)).rejects.toThrow(DatasetError);
    await expect(load(root)).rejects.toThrow(/it names posix.system. Nothing of it was executed/);
  });

  it('damaged pickles end in a named error or in a set', async () => {
    const whole = await readFile(path.join(pickles, 'python-2'));
    const root = await files({ data_batch_1: whole });
    for (let i = 0; i < 60; i++) {
      const damaged = Buffer.from(i % 2 ? whole : whole.subarray(0, i * 7));
      if (i % 2) damaged[(i * 31) % 250] = (i * 89) % 256;
      await writeFile(path.join(root, 'data_batch_1'), damaged);
      const outcome = await load(root).catch((error: unknown) => error);
      if (outcome instanceof Error) expect(outcome, `${i}: ${outcome.stack}`).toBeInstanceOf(DatasetError);
    }
  });

  it('with nothing that is read say what they hold', async () => {
    const root = await files({ 'a.zip': 'PK', 'b/c.mat': 'x' });
    await expect(load(root)).rejects.toThrow(/it has a.zip, b\/c.mat. Unpack the archive/);
    await mkdir(path.join(folder, 'empty'));
    await expect(load(path.join(folder, 'empty'))).rejects.toThrow(/empty has no file/);
  });

  it('with pictures beside data files say that they are left out', async () => {
    const root = await files({ 'train.parquet': await parquet([1]), 'assets/preview.png': 2 });
    const { count, warnings } = await load(root);
    expect([count, warnings]).toEqual([
      1,
      [expect.stringMatching(/its parquet files are read, not the 1 image files/)],
    ]);
  });
});

// Of `npm run fuzz`: reading never ended, and with nothing left to wait for the process did, without a word.
it('a tar archive with a size that cannot be read is damaged (tar-no-size)', async () => {
  await expect(load(path.join(CASES, 'tar-no-size.tar'))).rejects.toThrow(/is damaged: a member's size cannot be read/);
});

describe('damaged parquet files', () => {
  it('without a row (parquet-empty)', async () => {
    await expect(load(path.join(CASES, 'parquet-empty.parquet'))).rejects.toThrow(/parquet-empty.parquet has no rows/);
  });

  // Of `npm run fuzz`. hyparquet reads on at offset NaN without end, and writes as many values as a run claims.
  it.each([
    ['parquet-no-page-size', /rows 0 to 2 cannot be read: a page header has nothing where a size is needed/],
    ['parquet-no-description', /rows 2 to 4 cannot be read: a page of type 3 has no description/],
    ['parquet-long-run', /rows 0 to 2 cannot be read: a run has \d+ values, but \d+ are left of its page/],
  ])('do not keep the process busy for ever (%s)', async (name, message) => {
    await expect(load(path.join(CASES, `${name}.parquet`))).rejects.toThrow(message);
  });

  it('do not end the process (parquet-ends-process-1, -2)', () => {
    const script = `
      import { loadImages } from ${JSON.stringify(new URL('../../src/datasets/index.ts', import.meta.url).href)};
      for (const name of ['parquet-ends-process-1', 'parquet-ends-process-2'])
        await loadImages(${JSON.stringify(CASES)} + name + '.parquet', { cache_dir: ${JSON.stringify(folder)} }).catch((error) =>
          console.log(error.name));
      setTimeout(() => console.log('alive'), 50);`;
    const args = ['--import', 'tsx', '--input-type=module', '--eval', script];
    const { stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    expect([stdout.trim().split('\n'), stderr, status]).toEqual([['DatasetError', 'DatasetError', 'alive'], '', 0]);
  });
});
