import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { runHere } from '../cli/run-cli.ts';
import { tinyUNetConfig } from '../models/tiny-unet.ts';
import { CASES, folder, HUB, inFolderOfTest, parquet } from './small-sets.ts';

inFolderOfTest();

describe('the command line', () => {
  it('trains on a split and a column of labels, and counts images without a class', async () => {
    const set = path.join(folder, 'set');
    await mkdir(path.join(set, 'data'), { recursive: true });
    const names = HUB({ fine_label: ['oak', 'pine', 'carp'], coarse_label: ['tree', 'fish'] });
    const columns = { fine_label: [0n, 1n, 2n, 0n], coarse_label: [0n, 0n, 1n, -1n] };
    await writeFile(path.join(set, 'data/test-00000-of-00001.parquet'), await parquet([1, 2, 3, 4], columns, names));
    await writeFile(path.join(set, 'data/train-00000-of-00001.parquet'), await parquet([5]));
    await writeFile(path.join(folder, 'tiny.json'), JSON.stringify(tinyUNetConfig));
    const line = [
      ...['train', '--dataset', set, '--split', 'test', '--label-column', 'coarse_label', '--class-conditional'],
      ...['--model', path.join(folder, 'tiny.json'), '--resolution', '4', '--batch-size', '2'],
      ...['--max-steps', '1', '--device', 'cpu', '--sample-every', '0', '--cache-dir', path.join(folder, 'cache')],
    ];
    const run = path.join(folder, 'run');
    const { code, stdout, stderr } = await runHere([...line, '--output', run]);
    expect([code, stderr]).toEqual([0, expect.not.stringContaining('warning')]);
    expect(stdout).toContain('3 images of 4x4x3, 1 without a class left out');
    expect(stdout).toContain('2 classes');
    expect(await readFile(path.join(run, 'pipeline/README.md'), 'utf8')).toMatch(/\| 0 \| tree \|\n\| 1 \| fish \|/);

    const wrong = await runHere([...line.map((word) => (word === 'test' ? 'dev' : word)), '--output', `${run}-2`]);
    expect([wrong.code, wrong.stderr]).toEqual([
      expect.any(Number),
      expect.stringMatching(/has the splits 'test', 'train'/),
    ]);
    expect(wrong.code).not.toBe(0);
  });

  it('evaluates and takes statistics of splits', async () => {
    const source = path.join(CASES, 'hub-flat');
    const common = ['--extractor', 'raw-pixels', '--cache-dir', path.join(folder, 'cache')];
    const metrics = ['--metrics', 'fid', '--json', path.join(folder, 'report.json')];
    const first = await runHere([
      'evaluate',
      '--real',
      source,
      '--fake',
      source,
      '--fake-split',
      'all',
      ...common,
      ...metrics,
    ]);
    expect([first.code, first.stderr]).toEqual([
      0,
      expect.stringContaining(`warning: ${source}: the split 'train' is read, not the split 'test'`),
    ]);
    expect(JSON.parse(await readFile(path.join(folder, 'report.json'), 'utf8'))).toMatchObject({
      real_count: 6,
      fake_count: 12,
    });
    const out = path.join(folder, 'all.npz');
    const second = await runHere([
      'statistics',
      '--images',
      source,
      '--split',
      'all',
      '--extractor',
      'raw-pixels',
      '--out',
      out,
    ]);
    expect([second.code, second.stdout]).toEqual([0, expect.stringContaining('12 images')]);
  });
});
