import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { labelledImages } from '../../src/datasets/images/image-set.ts';
import { imagesFromArray } from '../../src/datasets/index.ts';
import { simpleLoss } from '../../src/losses/index.ts';
import { UNet2DModel } from '../../src/models/index.ts';
import { DDPMScheduler } from '../../src/schedulers/index.ts';
import { Trainer } from '../../src/trainers/trainer.ts';
import { CASES, files, folder, HUB, inFolderOfTest, load, parquet, tar } from './small-sets.ts';

inFolderOfTest();

/* Where the classes of images come from, and what is done with images that have none. */

describe('classes', () => {
  it('in metadata.jsonl (folder-metadata-jsonl)', async () => {
    const { labels, warnings } = await load(path.join(CASES, 'folder-metadata-jsonl'));
    expect([labels, warnings]).toEqual([[0, 1], []]);
  });

  it('as names in a column of text (parquet-strlabel)', async () => {
    const { labels, classNames } = await load(path.join(CASES, 'parquet-strlabel.parquet'));
    expect([labels, classNames]).toEqual([
      [0, 1, 0, 1, 0, 1],
      ['cat', 'dog'],
    ]);
  });

  it('in .cls files of shards (tar-shards)', async () => {
    const { count, labels, skipped } = await load(path.join(CASES, 'tar-shards'));
    expect([count, labels, skipped]).toEqual([6, [0, 1, 2, 0, 1, 2], []]);
  });

  it.each<[string, Record<string, string>, object, unknown]>([
    [
      'names in CSV',
      { 'metadata.csv': 'file_name,label\na.png,dog\nb.png,cat\n' },
      {},
      [
        [1, 0],
        ['cat', 'dog'],
      ],
    ],
    [
      'numbers in CSV',
      { 'metadata.csv': '\ufefffile_name,text,label\r\na.png,"x, y",7\r\nb.png,z,10\r\n' },
      {},
      [[7, 10], undefined],
    ],
    [
      'a chosen column',
      { 'metadata.csv': 'file_name,label,kind\na.png,1,p\nb.png,2,q\n' },
      { label_column: 'kind' },
      [
        [0, 1],
        ['p', 'q'],
      ],
    ],
    [
      'JSON lines',
      { 'metadata.jsonl': '{"file_name":"b.png","class":"x"}\n\n{"file_name":"./a.png","class":"y"}\n' },
      {},
      [
        [1, 0],
        ['x', 'y'],
      ],
    ],
    ['-1 and a missing value', { 'metadata.csv': 'file_name,label\na.png,-1\nb.png,3\n' }, {}, [[-1, 3], undefined]],
    ['captions only', { 'metadata.csv': 'file_name,text\na.png,a dog\nb.png,a cat\n' }, {}, [undefined, undefined]],
  ])('in metadata: %s', async (_what, metadata, options, expected) => {
    const root = await files({ 'a.png': 1, 'b.png': 2, ...metadata });
    const { labels, classNames, warnings } = await load(root, options);
    expect([labels, classNames]).toEqual(expected);
    expect(warnings).toEqual([]);
  });

  it('in metadata of splits; images without a row, other files and damaged ones are said', async () => {
    const root = await files({
      'train/1.png': 1,
      'train/x/2.png': 2,
      'train/3.png': 3,
      'train/metadata.csv': 'file_name,label\n1.png,cat\nx/2.png,dog\n',
      'test/1.png': 4,
      'test/metadata.csv': 'file_name,label\n1.png,fish\n',
    });
    const { labels, classNames, warnings } = await load(root);
    expect([labels, classNames]).toEqual([
      [0, -1, 1],
      ['cat', 'dog', 'fish'],
    ]);
    expect(warnings[1]).toMatch(/1 of 3 images have no class in the metadata, such as train\/3.png/);
    await writeFile(path.join(root, 'test/metadata.csv'), 'file_name,label\n1.png,bird\n../../2.png,bird\n');
    const again = await load(root);
    expect([again.labels, again.classNames]).toEqual([
      [1, -1, 2],
      ['bird', 'cat', 'dog'],
    ]);
    expect(again.warnings[2]).toMatch(/1 of 4 rows of the metadata name no image there, such as ..\/2.png/);
    const other = await files({ '../other/a.png': 1, '../other/metadata.csv': 'id,label\n1,2\n' }).then((set) =>
      path.join(set, '../other'),
    );
    expect((await load(other)).warnings).toEqual([
      expect.stringMatching(/is not used: it has no column 'file_name', only id, label/),
    ]);
    await expect(load(other, { label_column: 'kind' })).rejects.toThrow(/label_column is 'kind'/);
    await writeFile(path.join(other, 'metadata.jsonl'), '{"file_name":"a.png"}\n{"file_name"');
    await expect(load(other)).rejects.toThrow(/metadata.jsonl, line 2, is not JSON/);
  });

  it('of the Hub have their names in the file, and two columns to choose from', async () => {
    const columns = { fine_label: [2n, 0n, null], coarse_label: [1n, 1n, -1n] };
    const names = HUB({ fine_label: ['a', 'b', 'c'], coarse_label: ['x', 'y'] });
    const root = await files({ 'a.parquet': await parquet([1, 2, 3], columns, names) });
    const source = path.join(root, 'a.parquet');
    const fine = await load(source);
    expect([fine.labels, fine.classNames]).toEqual([
      [2, 0, -1],
      ['a', 'b', 'c'],
    ]);
    const coarse = await load(source, { label_column: 'coarse_label' });
    expect([coarse.labels, coarse.classNames]).toEqual([
      [1, 1, -1],
      ['x', 'y'],
    ]);
    await expect(load(source, { label_column: 'kind' })).rejects.toThrow(/has image, fine_label, coarse_label/);
  });

  it.each<[string, readonly unknown[], unknown]>([
    ['text, numbers in it', ['10', '2', '-1'], [[10, 2, -1], undefined]],
    [
      'text, mixed',
      ['10', 'b', 'a'],
      [
        [0, 2, 1],
        ['10', 'a', 'b'],
      ],
    ],
    ['whole numbers as floats, as pandas writes them', [1.0, null, 0.0], [[1, -1, 0], undefined]],
    ['truth values', [true, false, true], [[1, 0, 1], undefined]],
    ['numbers that are no classes', [0.5, 1.5, 2.5], [undefined, undefined]],
  ])('in parquet: %s', async (_what, label, expected) => {
    const root = await files({ 'a.parquet': await parquet([1, 2, 3], { label }) });
    const { labels, classNames } = await load(root);
    expect([labels, classNames]).toEqual(expected);
  });

  it('in .json of shards; a label apart from its image is said', async () => {
    const members = {
      'a.png': 1,
      'a.json': '{"label": "dog", "kind": 5}',
      'b.json': '{"label": "cat", "kind": 6}',
      'b.png': 2,
      'c.png': 3,
      'd.png': 4,
      'd.json': '{"label',
      'c.json': '{"label": "cat"}',
      'info.json': '{"label": "no image"}',
    };
    const source = path.join(await files({ 'x.tar': await tar(members) }), 'x.tar');
    const { values, labels, classNames, skipped } = await load(source);
    expect([values, labels, classNames]).toEqual([
      [1, 2, 3, 4],
      [1, 0, -1, -1],
      ['cat', 'dog'],
    ]);
    expect(skipped.map(({ source: name }) => name)).toEqual(['d.json', 'info.json', 'c']);
    expect((await load(source, { label_column: 'kind' })).labels).toEqual([5, 6, -1, -1]);
    await expect(load(source, { label_column: 'no' })).rejects.toThrow(/no image of .* has it: there is label, kind/);
  });

  it('of images beside class folders: they have none', async () => {
    const { labels } = await load(await files({ 'a/1.png': 1, 'b/2.png': 2, '3.png': 3 }));
    expect(labels).toEqual([-1, 0, 1]);
  });
});

describe('training on classes', () => {
  const tiny = () =>
    new UNet2DModel({
      sample_size: 4,
      in_channels: 1,
      out_channels: 1,
      block_out_channels: [4, 4],
      down_block_types: ['DownBlock2D', 'DownBlock2D'],
      up_block_types: ['UpBlock2D', 'UpBlock2D'],
      layers_per_block: 1,
      norm_num_groups: 2,
      attention_head_dim: 4,
      num_class_embeds: 2,
    });
  const images = () =>
    imagesFromArray(
      Uint8Array.from({ length: 64 }, (_, i) => i),
      {
        height: 4,
        width: 4,
        channels: 1,
        labels: [1, -1, 0, -1],
        class_names: ['cat', 'dog'],
      },
    );

  it('leaves out images without one with a count, and the model card names them', async () => {
    const said: string[] = [];
    const warn = vi.spyOn(process, 'emitWarning').mockImplementation((message) => void said.push(String(message)));
    try {
      const trainer = new Trainer({
        model: tiny(),
        args: { output_dir: path.join(folder, 'run'), max_steps: 1, per_device_train_batch_size: 2, device: 'cpu' },
        train_dataset: images(),
        loss: simpleLoss(),
        noise_scheduler: new DDPMScheduler(),
      });
      expect(said).toEqual([expect.stringMatching(/2 of 4 images of 'images' have no class/)]);
      await trainer.train();
      await trainer.savePipeline(path.join(folder, 'pipeline'));
    } finally {
      warn.mockRestore();
    }
    const card = await readFile(path.join(folder, 'pipeline/README.md'), 'utf8');
    expect(card).toContain('## Classes\n\n| | |\n|---|---|\n| 0 | cat |\n| 1 | dog |');
  });

  it('keeps those that have one, in order', () => {
    const part = labelledImages(images());
    expect([part.count, part.labels, part.pixels(1)[0], part.classNames]).toEqual([
      2,
      Int32Array.of(1, 0),
      32,
      ['cat', 'dog'],
    ]);
    expect(part.fingerprint).not.toBe(images().fingerprint);
    expect(() => part.pixels(2)).toThrow(/no image 2: the set has 2/);
    const whole = imagesFromArray(new Uint8Array(32), { height: 4, width: 4, channels: 1, labels: [0, 1] });
    expect(labelledImages(whole)).toBe(whole);
  });
});
