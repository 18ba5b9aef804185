import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TrainingEstimate } from '../../src/trainers/estimate/estimate.ts';
import type { ChildOutput } from '../child-output.ts';
import { tinyUNetConfig } from '../models/tiny-unet.ts';
import { runHere } from './run-cli.ts';

const before = process.cwd();
const folder = mkdtempSync(path.join(tmpdir(), 'iso-estimate-'));
beforeAll(async () => {
  writeFileSync(path.join(folder, 'unet.json'), JSON.stringify(tinyUNetConfig));
  for (const name of ['cats', 'dogs']) {
    mkdirSync(path.join(folder, 'photos', name), { recursive: true });
    const image = sharp({ create: { width: 20, height: 20, channels: 3, background: 'red' } });
    for (let i = 0; i < 3; i++)
      await image
        .clone()
        .png()
        .toFile(path.join(folder, 'photos', name, `${i}.png`));
  }
  process.chdir(folder);
});
afterAll(() => {
  process.chdir(before);
  rmSync(folder, { recursive: true, force: true });
});

async function estimateOf(...args: readonly string[]): Promise<TrainingEstimate> {
  const { code, stdout, stderr } = await runHere(['estimate', ...args, '--json']);
  expect(stderr).not.toContain('error');
  expect(code).toBe(0);
  return JSON.parse(stdout);
}

describe('estimate', () => {
  it('counts the images of a folder, of a set that is not here, and of none, and writes nothing', async () => {
    const cache = path.join(folder, 'cache');
    const names = readdirSync(folder);
    const model = ['--model', './unet.json', '--device', 'cpu', '--cache-dir', cache];
    const common = [...model, '--resolution', '16', '--epochs', '10', '--no-measure'];
    const folderOfTwo = await estimateOf(
      '--dataset',
      './photos',
      ...common,
      '--class-conditional',
      '--batch-size',
      '4',
    );
    expect(folderOfTwo).toMatchObject({ steps_per_epoch: 2, max_steps: 20 });
    expect(await estimateOf('--dataset', 'mnist-10k', ...common)).toMatchObject({ steps_per_epoch: 625 });
    expect(await estimateOf('--dataset', 'someone/photos', '--n', '320', ...common)).toMatchObject({ max_steps: 200 });
    expect(await estimateOf('--n', '320', ...common)).toMatchObject({ max_steps: 200 });
    const measured = ['--dataset', './photos', ...model, '--resolution', '8', '--batch-size', '2'];
    const found = await estimateOf(...measured, '--max-steps', '5', '--measure-seconds', '0.2');
    expect(found.measured?.steps).toBeGreaterThan(0);
    expect(readdirSync(folder)).toEqual(names);
  });

  it('runs the commands of docs/how-long.md, on a smaller network', async () => {
    const text = readFileSync(path.join(before, 'docs/how-long.md'), 'utf8');
    const commands = [...text.matchAll(/^npx iso-diffusion estimate .*$/gm)].map(([line]) => line);
    expect(commands.length).toBeGreaterThan(2);
    for (const command of commands) {
      const [, , ...args] = command.replace('ddpm-64', './unet.json').split(' ');
      const here = args.includes('swiss-roll') || args.includes('--model') ? [] : ['--model', './unet.json'];
      const { code, stdout } = await runHere([...args, ...here, '--no-measure']);
      expect(code).toBe(0);
      expect(stdout).toMatch(args.includes('--json') ? /"training_seconds": \d/ : /^the run: \d+ steps/m);
    }
  });

  it('prints a table', async () => {
    const { code, stdout } = await runHere(['estimate', '--dataset', 'moons', '--no-measure', '--memory', '0.3']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^parameters: 133002$/m);
    expect(stdout).toMatch(/^the run: 20000 steps, 1000 epochs: /m);
    expect(stdout).toMatch(/^ +512 +0\.2 GiB +yes /m);
    expect(stdout).toMatch(/^the largest of these batches that fits: 512$/m);
  });

  it.each([
    [['--dataset', 'moon']],
    [['--dataset', 'moons', '--resolution', '16']],
    [['--dataset', 'digits', '--model', 'smal']],
    [['--dataset', 'digits', '--batch-size', '0']],
    [['--dataset', 'digits', '--loss', 'simple', '--lambda', '1']],
    [['--dataset', 'digits', '--model', 'ddpm-64', '--resolution', '60']],
    [['--dataset', 'moons', '--lr-power', '2']],
    [['--dataset', 'moons', '--optim', 'adm']],
  ])('refuses what train refuses, in its words: %j', async (flags) => {
    const [train, estimate] = [await runHere(['train', ...flags]), await runHere(['estimate', ...flags])];
    expect(train.code).toBe(2);
    expect(estimate.code).toBe(2);
    // Node.js warns of listeners, of which many commands in one process have many.
    const errorOf = ({ stderr }: ChildOutput) => /^error: [\s\S]*/m.exec(stderr)?.[0];
    expect(errorOf(estimate)).toBe(errorOf(train));
    expect(errorOf(train)).toBeDefined();
  });

  it('asks for a number of images that it cannot know', async () => {
    const { code, stderr } = await runHere(['estimate', '--dataset', 'someone/photos', '--no-measure']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/how many images 'someone\/photos' has is not known .*--n.*--max-steps/);
  });
});
