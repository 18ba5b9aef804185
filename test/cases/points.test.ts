import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { loadPoints } from '../../src/datasets/index.ts';
import { evaluate } from '../../src/evaluation/evaluate.ts';
import { readStatistics } from '../../src/metrics/index.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { runHere } from '../cli/run-cli.ts';
import { temporaryFolder } from '../pipelines/saved-pipeline.ts';

const files = fileURLToPath(new URL('files/', import.meta.url));
const folder = await temporaryFolder();

const three = [0.5, -1, 2, 3, 0.001, 4.25];
// As np.loadtxt and np.load give them, the index column left out.
it.each([
  ['csv-aligned.csv', three, undefined],
  ['csv-space_mixed.csv', [1, 2, 3, 4], undefined],
  ['csv-pandas_index.csv', three, ['x', 'y']],
  ['points.tsv', [1, 2, 3, 4], undefined],
  ['points.txt', [1, 2, 3, 4], undefined],
  ['npy-py2long.npy', three, undefined],
])('%s', async (name, values, columns) => {
  const points = await loadPoints(path.join(files, name), { scaling: 'none' });
  expect({ dims: points.dims, data: [...points.data] }).toEqual({ dims: 2, data: values.map(Math.fround) });
  expect(points.columns).toEqual(columns);
});

it('npz-a_py2 and npz-count0d', async () => {
  const at = (name: string) => path.join(files, name);
  const report = await evaluate({ real: at('npz-a_py2.npz'), fake: at('npz-b.npz'), metrics: ['fid'] });
  // |mu_a - mu_b|^2 + tr(A + B - 2 sqrtm(A B)) with numpy and scipy.
  expect(report.metrics.fid).toBeCloseTo(10.117003009250558, 9);
  expect((await readStatistics(at('npz-count0d.npz'))).count).toBe(50);
});

it.each(['points.tsv', 'points.txt'])('%s can be trained on and evaluated', async (name) => {
  const file = path.join(files, name);
  const output = path.join(folder, name);
  const size = ['--hidden-features', '8', '--num-train-timesteps', '10', '--sample-every', '0'];
  const trained = await runHere(['train', '--dataset', file, '--epochs', '1', ...size, '--output', output]);
  expect(trained).toMatchObject({ code: 0 });
  const model = path.join(output, 'pipeline');
  const flags = ['--real', file, '--fake', model, '--n', '2', '--k', '1', '--steps', '2', '--json'];
  const { code, stdout } = await runHere(['evaluate', ...flags]);
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ real_count: 2, fake_count: 2 });
});

it('names of columns go from a file to the axes of plots and to generated files', async () => {
  const file = path.join(folder, 'petals.csv');
  const rows = Array.from({ length: 40 }, (_, i) => `${i},${Math.sin(i)},${Math.cos(i)}`);
  writeFileSync(file, [',"width, in cm",height', ...rows, ''].join('\r\n'));
  const output = path.join(folder, 'petals');
  const size = ['--hidden-features', '8', '--num-train-timesteps', '10', '--sample-every', '0'];
  expect(await runHere(['train', '--dataset', file, '--epochs', '1', ...size, '--output', output])).toMatchObject({
    code: 0,
  });
  const model = path.join(output, 'pipeline');
  const columns = ['width, in cm', 'height'];
  const generate = await pipeline('unconditional-point-generation', model);
  expect(generate.columns).toEqual(columns);
  // The names are no part of the scaling.
  expect(Object.keys(generate.scaler).sort()).toEqual(['kind', 'offset', 'scale']);
  await generate.dispose();

  const csv = path.join(folder, 'drawn.csv');
  const svg = path.join(folder, 'drawn.svg');
  expect(await runHere(['generate', '--model', model, '--n', '20', '--out', csv, svg])).toMatchObject({ code: 0 });
  expect(readFileSync(csv, 'utf8').split('\n')[0]).toBe('"width, in cm",height');
  expect((await loadPoints(csv)).columns).toEqual(columns);
  const plot = path.join(folder, 'compared');
  const flags = ['--real', file, '--fake', csv, '--n', '20', '--plot', plot];
  expect(await runHere(['evaluate', ...flags])).toMatchObject({ code: 0 });
  const other = path.join(folder, 'turned.csv');
  writeFileSync(other, 'height,"width, in cm"\n1,2\n3,4\n5,6\n');
  const turned = await runHere(['evaluate', '--real', other, '--fake', csv, '--k', '1']);
  expect(turned).toMatchObject({ code: 2, stderr: expect.stringMatching(/put them into the same order/) });
  for (const text of columns)
    for (const image of [svg, `${plot}.svg`]) expect(readFileSync(image, 'utf8')).toContain(`>${text}<`);
});
