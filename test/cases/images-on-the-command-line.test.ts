import { existsSync } from 'node:fs';
import { cp, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { runHere } from '../cli/run-cli.ts';
import { temporaryFolder } from '../pipelines/saved-pipeline.ts';

const folder = await temporaryFolder();
const startFolder = process.cwd();
const given = (name: string) => fileURLToPath(new URL(name, new URL('files/', import.meta.url)));

beforeAll(async () => {
  for (const name of ['eval-rgb', 'eval-big', 'eval-bmpmix'])
    await cp(given(name), path.join(folder, name), { recursive: true });
  await cp(given('eval-rgb'), path.join(folder, 'broken'), { recursive: true });
  await writeFile(path.join(folder, 'broken/x.png'), 'not a picture');
  await writeFile(path.join(folder, 'broken/y.heic'), 'not a picture');
  const tiny = {
    _class_name: 'UNet2DModel',
    block_out_channels: [8],
    down_block_types: ['DownBlock2D'],
    up_block_types: ['UpBlock2D'],
    layers_per_block: 1,
    norm_num_groups: 4,
  };
  await writeFile(path.join(folder, 'tiny.json'), JSON.stringify(tiny));
  process.chdir(folder);
});
afterAll(async () => {
  process.chdir(startFolder);
  await rm(folder, { recursive: true, force: true });
});

const run = (line: string) => runHere(line.split(' '));
const evaluate = (line: string) => run(`evaluate --metrics fid --extractor raw-pixels --cache-dir cache ${line}`);

it('evaluate takes BMP, and enlarges as Pillow', async () => {
  const mixed = JSON.parse((await evaluate('--real eval-rgb --fake eval-bmpmix --json')).stdout);
  expect([mixed.real_count, mixed.fake_count]).toEqual([40, 40]);
  expect(mixed.fid).toBeCloseTo(0, 6);
  const enlarged = JSON.parse((await evaluate('--real eval-rgb --fake eval-big --resolution 12 --json')).stdout);
  expect(enlarged.fid).toBeCloseTo(8.13, 2);
});

const LEFT_OUT = /^warning: .*broken: 2 entries left out: x\.png \(not a PNG, .*\), y\.heic \('\.heic' is not .*\)$/m;
const REFUSED = /broken: 2 entries cannot be used, which 'strict' refuses: x\.png/;

it('evaluate, statistics and train leave out what cannot be read, say so, and refuse it with --strict', async () => {
  const table = await evaluate('--real eval-rgb --fake broken');
  expect(table.stderr).toMatch(LEFT_OUT);
  expect(table.stdout).toMatch(/fake +\S*broken \(40, 2 left out\)/);
  const report = JSON.parse((await evaluate('--real eval-rgb --fake broken --json')).stdout);
  expect(report.fake_skipped.map(({ source }: { source: string }) => source)).toEqual(['x.png', 'y.heic']);
  expect(report.real_skipped).toBeUndefined();

  const statistics = 'statistics --images broken --extractor raw-pixels --out broken.npz';
  const train =
    'train --dataset broken --resolution 8 --model tiny.json --max-steps 1 --batch-size 4 --device cpu --cache-dir cache --output run';
  for (const line of [`${statistics} --strict`, `${train} --strict`]) {
    const refused = await run(line);
    expect(refused.code, line).not.toBe(0);
    expect(refused.stderr).toMatch(REFUSED);
  }
  const refused = await evaluate('--real eval-rgb --fake broken --strict');
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toMatch(REFUSED);
  expect(existsSync('broken.npz') || existsSync('run')).toBe(false);

  const written = await run(statistics);
  expect(written.stderr).toMatch(LEFT_OUT);
  expect(written.stdout).toMatch(/^broken\.npz: 40 images/);
  const trained = await run(train);
  expect(trained.stderr).toMatch(LEFT_OUT);
  expect(trained.stdout).toMatch(/broken: 40 images of 8x8x3, 2 skipped/);
}, 120_000);
