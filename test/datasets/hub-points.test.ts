import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { dataSetKind } from '../../src/datasets/named-data-set.ts';
import { DatasetError, HubError, InvalidArgumentError } from '../../src/errors.ts';
import { evaluate, loadPoints } from '../../src/index.ts';
import { parquet as imageParquet } from '../cases/small-sets.ts';
import { runHere } from '../cli/run-cli.ts';
import { MockHub } from '../hub/mock-hub.ts';

let hub: MockHub;
let root: string;
beforeEach(async () => {
  root = mkdtempSync(path.join(tmpdir(), 'iso-hub-points-'));
  hub = new MockHub();
  await hub.start();
  vi.stubEnv('HF_ENDPOINT', hub.endpoint);
  vi.stubEnv('HF_TOKEN', '');
  vi.stubEnv('XDG_CACHE_HOME', path.join(root, 'cache'));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await hub.stop();
  rmSync(root, { recursive: true, force: true });
});

type Columns = Parameters<typeof parquetWriteBuffer>[0]['columnData'];
const table = (columnData: Columns) => Buffer.from(parquetWriteBuffer({ columnData }));
const doubles = (name: string, data: number[]) => ({ name, data, type: 'DOUBLE' }) as const;
const publish = (files: Readonly<Record<string, Buffer>>, key = 'owner/points@main') =>
  hub.datasets.set(key, new Map(Object.entries(files)));
const downloads = () => hub.requests.filter(({ path: address }) => /resolve.*parquet/.test(address)).length;

it('points of the Hub are read by their columns and splits, and no more shards than are wanted', async () => {
  publish({
    'data/train-00000-of-00002.parquet': table([
      { name: 'id', data: ['a', 'b'], type: 'STRING' },
      doubles('y', [10, 20]),
      doubles('w', [5, 6]),
      doubles('x', [1, 2]),
    ]),
    'data/train-00001-of-00002.parquet': table([
      { name: 'id', data: ['c'], type: 'STRING' },
      doubles('y', [30]),
      doubles('w', [7]),
      doubles('x', [3]),
    ]),
    'data/test-00000-of-00001.parquet': table([doubles('x', [9, 8]), doubles('y', [90, 80])]),
  });
  const warnings: string[] = [];
  const load = (options = {}) =>
    loadPoints('owner/points', { scaling: 'none', on_warning: (text) => warnings.push(text), ...options });
  expect(await load({ n: 2 })).toMatchObject({ data: Float32Array.of(1, 10, 2, 20), columns: ['x', 'y'] });
  expect(downloads()).toBe(1);
  expect(warnings).toEqual([expect.stringContaining("the split 'train' is read, not the split 'test'")]);
  const all = await load({ split: 'train' });
  expect(all).toMatchObject({ name: 'owner/points', count: 3, data: Float32Array.of(1, 10, 2, 20, 3, 30) });
  expect(downloads()).toBe(2);
  expect((await load({ split: 'test' })).data).toEqual(Float32Array.of(9, 90, 8, 80));
  const chosen = await load({ split: 'train', columns: ['w', 'x', 'y'] });
  expect(chosen).toMatchObject({ dims: 3, data: Float32Array.of(5, 1, 10, 6, 2, 20, 7, 3, 30) });
  await expect(load({ split: 'train', columns: ['id', 'x'] })).rejects.toThrow(
    /no column 'id' of numbers: there are y, w, x/,
  );
  await expect(load({ split: 'dev' })).rejects.toThrow(InvalidArgumentError);
  expect(await dataSetKind('owner/points')).toBe('points');
});

it('a parquet file of other columns is read by the first two of numbers, with a warning', async () => {
  const file = path.join(root, 'points.parquet');
  writeFileSync(
    file,
    table([
      { name: 'when', data: [new Date(0), new Date(1)], type: 'TIMESTAMP' },
      { name: 'a', data: [1n, -2n], type: 'INT64' },
      { name: 'b', data: [0.5, 1.5], type: 'FLOAT' },
      doubles('c', [7, 8]),
    ]),
  );
  const on_warning = vi.fn();
  const points = await loadPoints(file, { scaling: 'none', on_warning });
  expect(points).toMatchObject({ data: Float32Array.of(1, 0.5, -2, 1.5), columns: ['a', 'b'] });
  expect(on_warning).toHaveBeenCalledWith(expect.stringMatching(/columns 'a' and 'b' are read, of a, b, c/));
  expect(await dataSetKind(file)).toBe('points');

  const images = path.join(root, 'images.parquet');
  writeFileSync(images, await imageParquet([1, 2]));
  expect(await dataSetKind(images)).toBe('images');
});

it('what is not a point, and options of other sources, are refused by name', async () => {
  const file = path.join(root, 'bad.parquet');
  const load = (columns: Columns, options = {}) => {
    writeFileSync(file, table(columns));
    return expect(loadPoints(file, options)).rejects;
  };
  await load([doubles('x', [1, Number.NaN]), doubles('y', [1, 2])]).toThrow(
    /bad.parquet, row 1, 'x': NaN is not a finite/,
  );
  await load([doubles('x', [1, 1e300]), doubles('y', [1, 2])]).toThrow(DatasetError);
  await load([doubles('x', [1, 2])]).toThrow(/no two columns of numbers \(there are: x\)/);
  await load([doubles('x', [1]), doubles('y', [2])], { split: 'test' }).toThrow(/split is 'test', but .* is a file/);
  await load([doubles('x', [1]), doubles('y', [2])], { noise: 1 }).toThrow(/noise is 1, but .* is stored/);
  writeFileSync(file, 'PAR1 but not really PAR1');
  await expect(loadPoints(file)).rejects.toThrow(DatasetError);
  await expect(loadPoints('moons', { columns: ['x'] })).rejects.toThrow(
    /neither a parquet file nor a data set of the Hub/,
  );
  await expect(loadPoints('owner/nothing')).rejects.toThrow(HubError);
  await expect(loadPoints('nothing')).rejects.toThrow(/data set 'nothing' is unknown/);
});

it('the command line trains on points of the Hub, and evaluate measures against them', async () => {
  const grid = Array.from({ length: 64 }, (_, i) => [i % 8, Math.floor(i / 8)] as const);
  const [x, y] = [grid.map(([a]) => a), grid.map(([, b]) => b)];
  publish({
    'train.parquet': table([doubles('x', x), doubles('y', y)]),
    'test.parquet': table([doubles('x', [1]), doubles('y', [2])]),
  });
  const output = path.join(root, 'run');
  const { code, stderr } = await runHere([
    ...['train', '--dataset', 'owner/points', '--split', 'train', '--batch-size', '32', '--hidden-features', '8'],
    ...['--max-steps', '2', '--sample-every', '0', '--device', 'cpu', '--output', output],
  ]);
  expect([code, stderr]).toEqual([0, expect.any(String)]);
  const scaler = JSON.parse(readFileSync(path.join(output, 'pipeline/point_scaler.json'), 'utf8'));
  expect(scaler.columns).toEqual(['x', 'y']);
  expect(readFileSync(path.join(output, 'pipeline/README.md'), 'utf8')).toContain('datasets:\n  - owner/points\n');
  const report = await evaluate({
    ...{ real: 'owner/points', fake: path.join(output, 'pipeline'), split: 'train', nearest_k: 3, device: 'cpu' },
    generation: { num_inference_steps: 2 },
  });
  expect(report.real).toMatchObject({ name: 'owner/points', count: 64 });
});
