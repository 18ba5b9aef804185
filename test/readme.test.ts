import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, inject, it } from 'vitest';
import * as api from '../src/index.ts';
import { runCli } from './cli/run-cli.ts';
import { runExample } from './run-example.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const readme = readFileSync(path.join(root, 'README.md'), 'utf8');
const folder = mkdtempSync(path.join(tmpdir(), 'iso-readme-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const blocks = (language: string) =>
  [...readme.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, 'g'))].map((match) => match[1] ?? '');
const commandLines = blocks('bash').flatMap((block) => block.trim().split('\n'));

/** The same text with shorter settings; fails where the README no longer has them. */
function shortened(text: string, changes: readonly (readonly [from: string, to: string])[]): string {
  return changes.reduce((current, [from, to]) => {
    expect(current).toContain(from);
    return current.replaceAll(from, to);
  }, text);
}

/** The arguments of a command of the README, with few steps, points and images. */
function quicker(command: string): string[] {
  const changes: Record<string, readonly (readonly [from: string, to: string])[]> = {
    train: [['--epochs 200', '--max-steps 4']],
    reproduce: [['--preset smoke', '--preset smoke --epochs 1 --runs 1']],
    sweep: [['--seeds 2 --epochs 100', '--seeds 1 --epochs 1 --at-sampling --n 40 --steps 2']],
  };
  const [, , verb = ''] = command.split(' ');
  const short = shortened(command, changes[verb] ?? [])
    .replace('--steps 20', '--steps 2')
    .replace(/--n \d+/, '--n 40');
  const few = short.includes('--steps') || short.includes('--metrics') ? [] : ['--steps', '5'];
  const more: Record<string, string[]> = {
    generate: [...few, ...(short.includes('--n ') ? [] : ['--n', '50'])],
    evaluate: short.includes('--metrics') ? ['--n', '40'] : [...few, '--n', '50'],
    analyze: ['--n', '50'],
  };
  return [...short.replace('npx iso-diffusion ', '').split(' '), ...(more[verb] ?? [])];
}

describe('README', () => {
  it('has API examples of points, of images and of a loss, and all run', async () => {
    const [points = '', images = '', ownLoss = '', ...others] = blocks('ts');
    expect(others).toEqual([]);
    const imports = [`from 'iso-diffusion'`, `from '${path.join(inject('build'), 'dist/index.js')}'`] as const;
    const graphImports = [
      `from 'iso-diffusion/graph'`,
      `from '${path.join(inject('build'), 'dist/graph.js')}'`,
    ] as const;
    const runs = [
      [points, [imports, ['num_train_epochs: 100', 'max_steps: 4']]],
      [
        images,
        [
          imports,
          ["'./photos', { resolution: 32 }", "'digits', { resolution: 16, channels: 3 }"],
          ["unet2DPreset('ddpm-cifar10')", smallUNet],
          ['num_train_epochs: 100', 'max_steps: 2'],
          ['num_inference_steps: 20', 'num_inference_steps: 2'],
        ],
      ],
      [ownLoss, [imports, graphImports, ['num_train_epochs: 100', 'max_steps: 4']]],
    ] as const;
    for (const [index, [text, changes]] of runs.entries()) {
      const file = path.join(folder, `example-${index}.mts`);
      writeFileSync(file, shortened(text, changes));
      await runExample(file, [], folder);
    }
    expect(existsSync(path.join(folder, 'runs/swiss-roll/pipeline/unet/model.onnx'))).toBe(true);
    expect(existsSync(path.join(folder, 'runs/photos/pipeline/unet_ema/model.onnx'))).toBe(true);
    expect(existsSync(path.join(folder, 'image.png'))).toBe(true);
    expect(readFileSync(path.join(folder, 'runs/logistic/metrics.jsonl'), 'utf8')).toMatch(/"largest_error":\d/);
  }, 120_000);

  it('names npm scripts that exist', () => {
    const { scripts } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
    const named = [...readme.matchAll(/npm (?:run ([\w:-]+)|(test))/g)].map((match) => match[1] ?? match[2]);
    expect(named.length).toBeGreaterThan(3);
    for (const name of named) expect(scripts).toHaveProperty([name ?? '']);
  });

  it('shows commands that run one after another', async () => {
    const commands = commandLines.filter((line) => line.startsWith('npx iso-diffusion '));
    expect(commands.length).toBeGreaterThan(3);
    for (const command of commands) expect(await runCli(quicker(command), folder)).toMatchObject({ code: 0 });
    expect(readdirSync(folder)).toEqual(expect.arrayContaining(['points.csv', 'grid.png', 'samples']));
  }, 240_000);

  it('links to files that exist, and to every guide', () => {
    const links = [...readme.matchAll(/\]\((?!https?:)([^)#]+)\)/g)].map((match) => match[1] ?? '');
    expect(links.length).toBeGreaterThan(1);
    for (const link of links) expect(existsSync(path.join(root, link)), link).toBe(true);
    const guides = readdirSync(path.join(root, 'docs')).filter((name) => name.endsWith('.md'));
    expect(links).toEqual(expect.arrayContaining(['ARCHITECTURE.md', ...guides.map((name) => `docs/${name}`)]));
  });

  it('names exports that exist', () => {
    const mentioned = [...readme.matchAll(/`(?:new )?([A-Za-z][A-Za-z0-9]*)\(/g)].map((match) => match[1] ?? '');
    expect(mentioned.length).toBeGreaterThan(5);
    for (const name of mentioned) expect(api).toHaveProperty(name);
  });
});

const smallUNet = `{
  sample_size: 16,
  block_out_channels: [8, 8],
  down_block_types: ['DownBlock2D', 'DownBlock2D'],
  up_block_types: ['UpBlock2D', 'UpBlock2D'],
  layers_per_block: 1,
  norm_num_groups: 4,
}`;
