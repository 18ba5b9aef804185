import { cp, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { DatasetError, InvalidArgumentError } from '../../src/errors.ts';
import { evaluate } from '../../src/evaluation/evaluate.ts';
import { imageStatistics } from '../../src/evaluation/image-statistics.ts';
import { CASES, files, folder, inFolderOfTest, load, parquet, tar } from './small-sets.ts';

inFolderOfTest();

/* Which files of a folder or an archive are read: links, hidden folders, splits. */

describe('links', () => {
  it('to class folders and files are followed (folder-symlinked-class)', async () => {
    await cp(path.join(CASES, 'folder-symlinked-class'), folder, { recursive: true });
    await symlink('../store/b', path.join(folder, 'set/b'));
    const set = await load(path.join(folder, 'set'));
    expect([set.count, set.labels, set.classNames, set.skipped]).toEqual([2, [0, 1], ['a', 'b'], []]);
    await symlink('../../store/b/1.png', path.join(folder, 'set/a/2.png'));
    expect((await load(path.join(folder, 'set'))).labels).toEqual([0, 0, 1]);
  });

  it('to the set itself, to what is above it, and in a circle are refused', async () => {
    const root = await files({ 'a/1.png': 1, 'b/1.png': 2 });
    await symlink('..', path.join(root, 'a/up'));
    await expect(load(root)).rejects.toThrow(DatasetError);
    await expect(load(root)).rejects.toThrow(/the link .*set\/a\/up leads to .*set, a folder that it lies in/);
    await rm(path.join(root, 'a/up'));
    await symlink('/', path.join(root, 'a/root'));
    await expect(load(root)).rejects.toThrow(/leads to \/, a folder that it lies in/);
    await rm(path.join(root, 'a/root'));
    await symlink('../b', path.join(root, 'a/b'));
    await symlink('../a', path.join(root, 'b/a'));
    await expect(load(root)).rejects.toThrow(/reading it would not end/);
  });

  it('two to one folder are two folders, one that leads nowhere is skipped', async () => {
    const root = await files({ 'a/1.png': 1, '../store/1.png': 2 });
    await symlink('../store', path.join(root, 'b'));
    await symlink('../store', path.join(root, 'c'));
    await symlink('../gone', path.join(root, 'd'));
    const { labels, skipped } = await load(root);
    expect(labels).toEqual([0, 1, 2]);
    expect(skipped).toEqual([{ source: 'd', reason: 'a link that leads nowhere' }]);
  });
});

describe('hidden folders', () => {
  it('are left out in archives as in folders (tar-hidden-folders.tar)', async () => {
    const { count, labels, skipped } = await load(path.join(CASES, 'tar-hidden-folders.tar'));
    expect([count, labels, skipped]).toEqual([1, undefined, []]);
  });

  it('also __MACOSX in folders, and members that begin with ./', async () => {
    const names = { 'x/1.png': 1, 'y/1.png': 2, '__MACOSX/x/2.png': 3, '.thumbs/3.png': 4, 'y/__MACOSX/4.png': 5 };
    const inFolder = await load(await files(names));
    const dotted = Object.fromEntries(Object.entries(names).map(([name, value]) => [`./${name}`, value]));
    const inArchive = await load(await files({ 'a.tar': await tar(dotted) }).then((root) => path.join(root, 'a.tar')));
    for (const { values, labels, skipped } of [inFolder, inArchive])
      expect([values, labels, skipped]).toEqual([[1, 2], [0, 1], []]);
  });
});

describe('splits', () => {
  const SAID = /the split 'train' is read, not the splits? 'test'/;

  it('are folders called train, test and validation (folder-split-names)', async () => {
    const source = path.join(CASES, 'folder-split-names');
    const { count, labels, warnings } = await load(source);
    expect([count, labels]).toEqual([1, undefined]);
    expect(warnings).toEqual([`${source}: the split 'train' is read, not the splits 'test', 'validation'`]);
    expect((await load(source, { split: 'val' })).warnings).toEqual([]);
    expect((await load(source, { split: 'all' })).count).toBe(3);
    await expect(load(source, { split: 'extra' })).rejects.toThrow(InvalidArgumentError);
    await expect(load(source, { split: 'extra' })).rejects.toThrow(/'test', 'train', 'validation', but not 'extra'/);
  });

  it.each(['hub-snapshot', 'hub-flat'])('are parquet files called train-* and test-* (%s)', async (name) => {
    const { count, labels, warnings } = await load(path.join(CASES, name));
    expect([count, labels]).toEqual([6, [0, 1, 2, 3, 4, 5]]);
    expect(warnings).toEqual([expect.stringMatching(SAID)]);
    expect((await load(path.join(CASES, name), { split: 'test' })).count).toBe(6);
    expect((await load(path.join(CASES, name), { split: 'all' })).count).toBe(12);
  });

  it.each<[string, string[], string[]]>([
    ['classes in them', ['train/cat/1', 'train/dog/2', 'test/cat/3', 'val/dog/4'], ['train/cat/1', 'train/dog/2']],
    ['below a further folder', ['data/Training/x/1', 'data/Testing/x/2'], ['data/Training/x/1']],
    ['inside the classes', ['cat/train/1', 'cat/test/2', 'dog/train/3', 'dog/test/4'], ['cat/train/1', 'dog/train/3']],
    ['with a year', ['train2017/1', 'val2017/2'], ['train2017/1']],
    ['with a further word', ['seg_train/seg_train/sea/1', 'seg_test/seg_test/sea/2'], ['seg_train/seg_train/sea/1']],
    ['dev', ['train/1', 'dev/2'], ['train/1']],
  ])('%s', async (_what, names, chosen) => {
    const root = await files(Object.fromEntries(names.map((name, i) => [`${name}.png`, 10 * i])));
    const { values, labels, warnings } = await load(root);
    expect(values).toEqual(chosen.map((name) => 10 * names.indexOf(name)));
    expect(labels).toEqual(chosen.length === 2 ? [0, 1] : undefined);
    expect(warnings).toHaveLength(1);
  });

  it.each<[string, string[]]>([
    ['a class with such a word in it', ['airport/1', 'train_station/2', 'test-tube/3']],
    ['a class called train among others', ['boat/1', 'car/2', 'train/3']],
    ['words that only contain one', ['contest/1', 'devices/2', 'strain/3', 'latest/4']],
  ])('%s is no split', async (_what, names) => {
    const root = await files(Object.fromEntries(names.map((name, i) => [`${name}.png`, 10 * i])));
    expect((await load(root)).labels).toEqual(names.map((_, i) => i));
  });

  it('say what lies outside of them, and number a class alike in each', async () => {
    const root = await files({ 'train/b/1.png': 1, 'train/a/1.png': 2, 'test/b/1.png': 3, 'old/1.png': 4 });
    const train = await load(root);
    expect([train.values, train.labels]).toEqual([
      [2, 1],
      [0, 1],
    ]);
    expect(train.warnings).toEqual([expect.stringMatching(/not the split 'test' and the 1 files outside of splits/)]);
    const test = await load(root, { split: 'test' });
    expect([test.values, test.labels, test.classNames]).toEqual([[3], [1], ['a', 'b']]);
  });

  it('of tar files: folders inside, and names of shards', async () => {
    const members = { 'train/a/1.png': 1, 'train/b/2.png': 2, 'test/a/3.png': 3 };
    const root = await files({ 'x.tar': await tar(members) });
    const { values, labels, warnings } = await load(path.join(root, 'x.tar'));
    expect([values, labels]).toEqual([
      [1, 2],
      [0, 1],
    ]);
    expect(warnings).toEqual([expect.stringMatching(SAID)]);
    const shards = path.join(folder, 'shards');
    await mkdir(shards);
    for (const [i, name] of ['set-train-0000.tar', 'set-train-0001.tar', 'set-val-0000.tar'].entries())
      await writeFile(path.join(shards, name), await tar({ 'a.png': 10 * i }));
    expect((await load(shards)).values).toEqual([0, 10]);
    expect((await load(shards, { split: 'validation' })).values).toEqual([20]);
    const inside = path.join(folder, 'inside');
    await mkdir(inside);
    for (const [i, name] of ['0.tar', '1.tar'].entries())
      await writeFile(path.join(inside, name), await tar({ 'train/a.png': 10 * i, 'test/a.png': 10 * i + 5 }));
    expect((await load(inside)).values).toEqual([0, 10]);
    expect((await load(inside, { split: 'test' })).values).toEqual([5, 15]);
  });

  it('of parquet files: in folders, by other names of the Hub; several sets are not joined', async () => {
    const root = await files({
      'plain/train/0000.parquet': await parquet([1]),
      'plain/test/0000.parquet': await parquet([2]),
      'other/train-00000-of-00001.parquet': await parquet([3]),
      'other/unsupervised-00000-of-00001.parquet': await parquet([4]),
    });
    expect((await load(path.join(root, 'plain'))).values).toEqual([1]);
    expect((await load(path.join(root, 'other'), { split: 'unsupervised' })).values).toEqual([4]);
    await expect(load(root)).rejects.toThrow(/has several sets, in other, plain\/train: give the folder of one/);
  });

  it('a single one is read, whatever it is called', async () => {
    const alone = await load(await files({ 'test/a/1.png': 1, 'test/b/2.png': 2 }));
    expect([alone.labels, alone.warnings]).toEqual([
      [0, 1],
      [expect.stringMatching(/the split 'test' is read, there is no other/)],
    ]);
    await expect(load(await files({ '3.png': 3 }))).rejects.toThrow(/has the split 'test', but not 'train'/);
  });

  it('are refused where there are none, or of a file that is given by itself', async () => {
    const root = await files({ 'a.png': 1, 'test-0.parquet': await parquet([1]) });
    await expect(load('digits', { split: 'test' })).rejects.toThrow(/digits has no splits: leave it out/);
    expect((await load('digits', { split: 'train' })).count).toBe(1797);
    expect((await load(path.join(root, 'test-0.parquet'))).count).toBe(1);
    await expect(load(path.join(root, 'test-0.parquet'), { split: 'train' })).rejects.toThrow(/has the split 'test'/);
  });

  it('are chosen in evaluations too', async () => {
    const source = path.join(CASES, 'hub-flat');
    const said: string[] = [];
    const on_warning = (message: string) => said.push(message);
    const common = { extractor: 'raw-pixels', on_warning, cache_dir: path.join(folder, 'cache') } as const;
    const report = await evaluate({ real: source, fake: source, fake_split: 'all', metrics: ['fid'], ...common });
    expect([report.real.count, report.fake.count]).toEqual([6, 12]);
    expect(said.filter((message) => SAID.test(message))).toHaveLength(1);
    const archive = path.join(
      await files({ 'x.tar': await tar({ 'train/1.png': 1, 'train/2.png': 2, 'test/3.png': 3 }) }),
      'x.tar',
    );
    said.length = 0;
    await evaluate({ real: archive, fake: archive, fake_split: 'all', metrics: ['fid'], ...common });
    expect(said).toEqual([expect.stringMatching(SAID)]);
    const refused = evaluate({ real: 'moons', fake: 'moons', split: 'test' });
    await expect(refused).rejects.toThrow(/split is 'test', but the samples are points/);
    const { set } = await load(source);
    await expect(evaluate({ real: source, fake: set, fake_split: 'test' })).rejects.toThrow(/are a loaded set/);
    await expect(imageStatistics({ images: set, split: 'test', extractor: 'raw-pixels' })).rejects.toThrow(
      /loaded already/,
    );
    const { statistics } = await imageStatistics({ images: source, split: 'all', extractor: 'raw-pixels' });
    expect(statistics.count).toBe(12);
  });
});
