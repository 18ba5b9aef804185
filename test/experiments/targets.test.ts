import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { parseImageSet } from '../../src/experiments/jobs/image-sets.ts';
import { jobName } from '../../src/experiments/jobs/job.ts';
import { imageJobs, pointCells, pointJobs } from '../../src/experiments/reproduce/paper/targets.ts';
import { tinyImages, tinyPoints } from './tiny-jobs.ts';

const root = mkdtempSync(path.join(tmpdir(), 'iso-sets-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe('the jobs of targets', () => {
  it('are the first seed of everything, then the second', () => {
    const jobs = pointJobs(['table-1', 'table-2', 'figure-1'], [4, 5], tinyPoints);
    // Table 1 has 8 cells, Table 2 four more of the Swiss roll; the figure needs the same as Table 2.
    expect(jobs.map(({ seed }) => seed)).toEqual([...Array(12).fill(4), ...Array(12).fill(5)]);
    expect(new Set(jobs.map(jobName)).size).toBe(24);
    expect(jobName(jobs[1] ?? jobs[0] ?? { ...tinyJob })).toBe('swiss-roll-lambda-0.1-seed-4');
  });

  it('are 72 for Tables 1 to 5 with 3 runs', () => {
    const tables = ['table-1', 'table-2', 'table-3', 'table-4', 'table-5'] as const;
    expect(pointJobs(tables, [0, 1, 2], tinyPoints)).toHaveLength(72);
    expect(pointCells('table-6')).toEqual([]);
  });

  it('of images are DDPM and Iso of each set', () => {
    const sets = ['a', 'b'].map((name) => ({ name, source: 'digits', data_dir: null }));
    expect(imageJobs(sets, 0.2, [0], tinyImages).map(jobName)).toEqual([
      'a-lambda-0-seed-0',
      'a-lambda-0.2-seed-0',
      'b-lambda-0-seed-0',
      'b-lambda-0.2-seed-0',
    ]);
  });
});

const tinyJob = { kind: 'points', dataset: 'moons', lambda: 0, seed: 0, ...tinyPoints } as const;

describe('parseImageSet', () => {
  it('knows sets by name, archives by their folder, and plain folders', async () => {
    expect(await parseImageSet('digits')).toEqual({ name: 'digits', source: 'digits', data_dir: null });
    expect(await parseImageSet(root)).toEqual({ name: path.basename(root), source: root, data_dir: null });
    expect(await parseImageSet(`oxford-iiit-pet=${root}`)).toMatchObject({
      name: 'oxford-iiit-pet',
      source: root,
    });
    writeFileSync(path.join(root, '102flowers.tgz'), '');
    const flowers = { name: 'oxford-flowers-102', source: 'oxford-flowers-102', data_dir: root };
    expect(await parseImageSet(root)).toEqual(flowers);
    expect(await parseImageSet(`oxford-flowers-102=${root}`)).toEqual(flowers);
    expect(await parseImageSet(`mine=${root}`)).toMatchObject({ name: 'mine', source: root });
  });

  it.each(['nowhere', 'name=nowhere', `two words=${root}`, `..=${root}`])('refuses %j', async (text) => {
    await expect(parseImageSet(text)).rejects.toThrow(InvalidArgumentError);
  });
});
