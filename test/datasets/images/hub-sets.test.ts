import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DatasetError, HubError, InvalidArgumentError } from '../../../src/errors.ts';
import { evaluate } from '../../../src/evaluation/evaluate.ts';
import { folder, HUB, inFolderOfTest, load, parquet } from '../../cases/small-sets.ts';
import { runHere } from '../../cli/run-cli.ts';
import { MockHub } from '../../hub/mock-hub.ts';
import { tinyUNetConfig } from '../../models/tiny-unet.ts';

inFolderOfTest();

let hub: MockHub;
beforeEach(async () => {
  hub = new MockHub();
  await hub.start();
  vi.stubEnv('HF_ENDPOINT', hub.endpoint);
  vi.stubEnv('HF_TOKEN', '');
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await hub.stop();
});

/** Publishes a data set; the files of a revision by their paths. */
async function publish(contents: Readonly<Record<string, Uint8Array | string>>, key = 'owner/set@main') {
  hub.datasets.set(key, new Map(Object.entries(contents).map(([name, content]) => [name, Buffer.from(content)])));
}

const downloads = () => hub.requests.map(({ path }) => path).filter((path) => path.includes('/resolve/'));
const filesOf = (paths: readonly string[]) => paths.map((each) => each.replace(/.*\/resolve\/[0-9a-f]+\//, ''));

describe('a data set of the Hub', () => {
  it('is read by split, one shard at a time, with the names of its classes', async () => {
    const names = HUB({ label: ['oak', 'pine'] });
    await publish({
      'README.md': '# trees',
      'data/train-00000-of-00002-abc.parquet': await parquet([1, 2], { label: [0n, 1n] }, names),
      'data/train-00001-of-00002-def.parquet': await parquet([3], { label: [1n] }, names),
      'data/test-00000-of-00001-ghi.parquet': await parquet([9], { label: [0n] }, names),
      'notes/old.parquet': await parquet([77]),
    });
    const train = await load('owner/set', { split: 'train' });
    expect(train).toMatchObject({ values: [1, 2, 3], labels: [0, 1, 1], classNames: ['oak', 'pine'] });
    expect(train.set).toMatchObject({ name: 'owner/set', hubId: 'owner/set' });
    expect(filesOf(downloads())).toEqual([
      'README.md',
      'data/train-00000-of-00002-abc.parquet',
      'data/train-00001-of-00002-def.parquet',
    ]);
    const test = await load('owner/set', { split: 'test' });
    expect(test.values).toEqual([9]);
    const both = await load('owner/set');
    expect(both.values).toEqual([1, 2, 3]);
    expect(both.warnings[0]).toMatch(/owner\/set: the split 'train' is read, not the split 'test'/);
    await expect(load('owner/set', { split: 'dev' })).rejects.toThrow(
      /owner\/set has the splits 'test', 'train', but not 'validation'/,
    );
  });

  it('downloads no further shard than it needs', async () => {
    await publish({
      'data/train-00000-of-00002.parquet': await parquet([1, 2, 3, 4, 5, 6, 7, 8]),
      'data/train-00001-of-00002.parquet': await parquet([9]),
    });
    expect((await load('owner/set', { max_images: 2 })).values).toEqual([1, 2]);
    expect(filesOf(downloads())).toEqual(['data/train-00000-of-00002.parquet']);
  });

  it('is divided by its card, which also names the classes', async () => {
    await publish({
      'README.md': `---
configs:
- config_name: small
  data_files: [{split: train, path: "s/*"}]
- config_name: large
  default: true
  data_files: [{split: train, path: "l/a*"}, {split: val, path: "l/b*"}]
dataset_info:
- config_name: large
  features:
  - name: label
    dtype: {class_label: {names: {'0': cat, '1': dog}}}
---
`,
      's/a.parquet': await parquet([1]),
      'l/a1.parquet': await parquet([2], { label: [1n] }),
      'l/b1.parquet': await parquet([3], { label: [0n] }),
    });
    expect(await load('owner/set', { split: 'train' })).toMatchObject({ values: [2], classNames: ['cat', 'dog'] });
    expect((await load('owner/set', { split: 'val' })).values).toEqual([3]);
    expect((await load('owner/set', { dataset_config_name: 'small' })).values).toEqual([1]);
    await expect(load('owner/set', { dataset_config_name: 'huge' })).rejects.toThrow(
      "owner/set has no configuration 'huge': there are 'small', 'large'",
    );
  });

  it('without parquet files is read as the Hub has converted it', async () => {
    await publish({ 'images.zip': 'zip', 'train/1.jpg': 'jpg' });
    await expect(load('owner/set')).rejects.toThrow(DatasetError);
    await expect(load('owner/set')).rejects.toThrow(/has no parquet files, and the Hub has not converted it/);
    const key = 'owner/set@refs/convert/parquet';
    await publish(
      { 'a/partial-train/0000.parquet': await parquet([1]), 'a/test/0000.parquet': await parquet([2]) },
      key,
    );
    const train = await load('owner/set', { split: 'train' });
    expect(train.values).toEqual([1]);
    expect(train.warnings).toEqual([
      'owner/set: the Hub has converted only a part of it, which is read: a/partial-train',
    ]);
    await publish({ 'a/train/0000.parquet': await parquet([1]), 'b/train/0000.parquet': await parquet([2]) }, key);
    await expect(load('owner/set', { cache_dir: path.join(folder, 'other') })).rejects.toThrow(
      "owner/set has the configurations 'a', 'b': give one of them as dataset_config_name",
    );
    const cache_dir = path.join(folder, 'other');
    expect((await load('owner/set', { dataset_config_name: 'b', cache_dir })).values).toEqual([2]);
    await publish({ 'x.zip': 'zip' }, 'owner/set@v1');
    await expect(load('owner/set', { revision: 'v1' })).rejects.toThrow(/no parquet files .*at revision 'v1'/);
  });

  it('finds the column of images by its feature', async () => {
    const png = (await load('digits', { max_images: 1 })).set;
    expect(png.count).toBe(1);
    const image = new Uint8Array(await parquetImage());
    const features = { image: { dtype: 'string', _type: 'Value' }, picture: { _type: 'Image' } };
    const file = parquetWriteBuffer({
      columnData: [
        { name: 'image', data: ['http://elsewhere/1.png'] },
        { name: 'picture', data: [image], type: 'BYTE_ARRAY' },
      ],
      kvMetadata: [{ key: 'huggingface', value: JSON.stringify({ info: { features } }) }],
    });
    await publish({ 'train.parquet': new Uint8Array(file) });
    expect((await load('owner/set')).values).toEqual([200]);
  });

  it('is asked for once, and found without a network', async () => {
    await publish({ 'data/train-00000-of-00001.parquet': await parquet([5]) });
    const before = await load('owner/set');
    vi.stubEnv('HF_HUB_OFFLINE', '1');
    const asked = hub.requests.length;
    const offline = await load('owner/set', { resolution: 8 });
    expect(offline.values).toEqual([5]);
    await expect(load('owner/other')).rejects.toThrow(/data set owner\/other at main is not in the cache/);
    expect(hub.requests.length).toBe(asked);
    vi.stubEnv('HF_HUB_OFFLINE', '');
    await expect(load('owner/other', { local_files_only: true })).rejects.toThrow(/local_files_only is true/);
    await hub.stop();
    expect((await load('owner/set')).set.fingerprint).toBe(before.set.fingerprint);
  });

  it('that was not downloaded as a whole says which file is missing', async () => {
    await publish({
      'data/train-00000-of-00002.parquet': await parquet([1, 2, 3, 4, 5, 6, 7, 8]),
      'data/train-00001-of-00002.parquet': await parquet([9]),
    });
    await load('owner/set', { max_images: 1 });
    await expect(load('owner/set', { local_files_only: true })).rejects.toThrow(
      /train-00001-of-00002\.parquet of owner\/set is not in the cache/,
    );
  });

  it('survives a cut connection, and refuses a damaged shard', async () => {
    await publish({ 'data/train-00000-of-00001.parquet': await parquet([5]) });
    hub.faults.push('cut');
    expect((await load('owner/set')).values).toEqual([5]);
    await rm(path.join(folder, 'cache'), { recursive: true });
    hub.faults.push('damage');
    await expect(load('owner/set')).rejects.toThrow(/the content has the git-sha1/);
  });

  it('that is private needs the token', async () => {
    await publish({ 'train.parquet': await parquet([5]) });
    hub.token = 'hf_read';
    await expect(load('owner/set')).rejects.toThrow(HubError);
    await expect(load('owner/set')).rejects.toThrow(
      /there is no file or folder 'owner\/set', and as a data set of the Hub: .*status 401.*set HF_TOKEN/,
    );
    expect((await load('owner/set', { token: 'hf_read' })).values).toEqual([5]);
  });

  it('with hostile paths, cards and shards ends in a named error', async () => {
    await publish({ '../../../evil.parquet': await parquet([5]) });
    await expect(load('owner/set')).rejects.toThrow(
      /lists a file '\.\.\/\.\.\/\.\.\/evil\.parquet', which is not a path/,
    );
    await publish({ 'train.parquet': 'not parquet' }, 'owner/bad@main');
    await expect(load('owner/bad')).rejects.toThrow(DatasetError);
    await publish({ 'README.md': '---\nconfigs: 7\n---\n', 'train.parquet': await parquet([5]) }, 'owner/card@main');
    await expect(load('owner/card')).rejects.toThrow(
      /owner\/card, README\.md: its header does not describe a data set/,
    );
  });

  it('gives way to a local folder of that name; local sets have neither revision nor configuration', async () => {
    await publish({ 'train.parquet': await parquet([5]) });
    const local = path.join(folder, 'owner/set');
    await mkdir(local, { recursive: true });
    await writeFile(path.join(local, 'a.parquet'), await parquet([6]));
    const before = process.cwd();
    process.chdir(folder);
    try {
      expect((await load('owner/set')).values).toEqual([6]);
    } finally {
      process.chdir(before);
    }
    expect(hub.requests).toEqual([]);
    await expect(load(local, { revision: 'v1' })).rejects.toThrow(InvalidArgumentError);
    await expect(load('digits', { dataset_config_name: 'x' })).rejects.toThrow(/not a data set of the Hub/);
  });
});

/** A PNG of one red, 200, out of a parquet file that the helpers write. */
async function parquetImage(): Promise<Buffer> {
  const { default: sharp } = await import('sharp');
  return sharp({ create: { width: 4, height: 4, channels: 3, background: { r: 200, g: 0, b: 0 } } })
    .png()
    .toBuffer();
}

it('the command line trains on it, evaluates against it, and the card names it', async () => {
  const names = HUB({ label: ['oak', 'pine'] });
  await publish({
    'data/train-00000-of-00001.parquet': await parquet([1, 2, 3], { label: [0n, 1n, 1n] }, names),
    'data/test-00000-of-00001.parquet': await parquet([9, 8], { label: [0n, 1n] }, names),
  });
  await writeFile(path.join(folder, 'tiny.json'), JSON.stringify(tinyUNetConfig));
  vi.stubEnv('XDG_CACHE_HOME', path.join(folder, 'xdg'));
  const run = path.join(folder, 'run');
  const trained = await runHere([
    ...['train', '--dataset', 'owner/set', '--split', 'test', '--class-conditional', '--resolution', '4'],
    ...[
      '--model',
      path.join(folder, 'tiny.json'),
      '--batch-size',
      '2',
      '--max-steps',
      '1',
      '--sample-every',
      '0',
      '--device',
      'cpu',
    ],
    ...['--output', run],
  ]);
  expect(trained).toMatchObject({ code: 0, stdout: expect.stringContaining('owner/set: 2 images of 4x4x3') });
  const card = await readFile(path.join(run, 'pipeline/README.md'), 'utf8');
  expect(card).toContain('datasets:\n  - owner/set\n');
  expect(card).toContain('# Images from owner/set\n');
  const evaluated = await runHere([
    ...['evaluate', '--real', 'owner/set', '--split', 'train', '--fake', path.join(run, 'pipeline'), '--n', '3'],
    ...['--metrics', 'prdc', '--k', '1', '--extractor', 'raw-pixels', '--steps', '2', '--device', 'cpu'],
    ...['--class-labels', '0'],
  ]);
  expect(evaluated).toMatchObject({ code: 0, stdout: expect.stringMatching(/real +owner\/set \(3\)/) });
  const unused = await evaluate({ real: 'moons', fake: 'moons', dataset_revision: 'v1' }).catch((error) => error);
  expect(unused).toMatchObject({ message: expect.stringContaining("dataset_revision is 'v1', but the samples are") });
  const part = { real: 'owner/set', fake: 'digits', metrics: ['prdc'], extractor: 'raw-pixels' } as const;
  await expect(evaluate({ ...part, dataset_config_name: 'x' })).rejects.toThrow("owner/set has no configuration 'x'");
  const wrong = await runHere(['train', '--dataset', 'owner/none', '--output', `${run}-2`]);
  expect(wrong).toMatchObject({ code: 2, stderr: expect.stringMatching(/no file or folder 'owner\/none', and as/) });
});
