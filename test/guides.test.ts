import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { runHere } from './cli/run-cli.ts';
import { type Change, commandsOf, runBlocks } from './doc-blocks.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-guides-'));
const before = process.cwd();
beforeAll(async () => {
  process.chdir(folder);
  for (let i = 0; i < 8; i++) {
    const file = `photos/${i < 4 ? 'cats' : 'dogs'}/${i}.${['png', 'jpg', 'webp'][i % 3]}`;
    mkdirSync(path.dirname(file), { recursive: true });
    const background = { r: 30 * i, g: 255 - 25 * i, b: 128 };
    await sharp({ create: { width: 20 + i, height: 16, channels: 3, background } }).toFile(file);
  }
  writeFileSync('tiny.json', JSON.stringify({ _class_name: 'UNet2DModel', ...tinyUNet }));
  const grey = { _class_name: 'UNet2DModel', ...tinyUNet, in_channels: 1, out_channels: 1 };
  writeFileSync('tiny-grey.json', JSON.stringify(grey));
});
// A page begins without the files of another one.
beforeEach(() => {
  const written = readdirSync('.').filter((name) => !['photos', 'tiny.json', 'tiny-grey.json'].includes(name));
  for (const name of written) rmSync(name, { recursive: true });
});
afterAll(() => {
  process.chdir(before);
  rmSync(folder, { recursive: true, force: true });
});

async function runCommands(name: string, changes: readonly Change[]): Promise<number> {
  const commands = commandsOf(name, changes);
  for (const command of commands) {
    const { code, stderr } = await runHere(command);
    expect(code, `${command.join(' ')}\n${stderr}`).toBe(0);
  }
  return commands.length;
}

it('README.md trains on a folder of images, on the command line and in a program', async () => {
  const count = await runCommands('README.md', [
    ['--ema', '--ema --model tiny.json --batch-size 4 --max-steps 1 --sample-every 0'],
    ['--resolution 32', '--resolution 8'],
    [/--n \d+/g, '--n 8'],
    ['--steps 20', '--steps 2'],
  ]);
  expect(count).toBe(3);
  expect(existsSync('grid.png') && existsSync('runs/photos/run.html')).toBe(true);
  await runBlocks('README.md', folder, [
    ['./runs/photos', './runs/program'],
    ...tinyProgram,
    ['num_inference_steps: 20', 'num_inference_steps: 2'],
  ]);
  expect(existsSync('image.png') && existsSync('runs/program/pipeline/unet_ema/model.onnx')).toBe(true);
}, 240_000);

it('docs/tutorial-images.md goes from a folder of images to metrics, a program and the plan of an upload', async () => {
  const count = await runCommands('docs/tutorial-images.md', [
    ['--model small', '--model tiny.json --batch-size 4'],
    ['--resolution 32', '--resolution 8'],
    ['--epochs 100 --output runs/photos\n', '--epochs 1 --output runs/photos\n'],
    ['--epochs 100', '--epochs 2'],
    [/--n \d+/g, '--n 8'],
    ['--steps 20', '--steps 2'],
  ]);
  expect(count).toBeGreaterThan(9);
  expect(existsSync('sheets/best.png') && existsSync('samples/000007.png')).toBe(true);
  expect(readFileSync('report.json', 'utf8')).toMatch(/"fid":[\s\S]*"coverage":/);
  await runBlocks('docs/tutorial-images.md', folder, [
    ['num_inference_steps: 20', 'num_inference_steps: 2'],
    ...tinyProgram,
  ]);
  expect(existsSync('image-3.png')).toBe(true);
}, 240_000);

it('docs/choosing-lambda.md compares weights of the penalty', async () => {
  await runCommands('docs/choosing-lambda.md', [
    ['--epochs 200', '--epochs 1'],
    ['--n 10000', '--n 40 --steps 2'],
    ['--real moons', '--n-real 40 --real moons'],
    ['--seeds 3', '--seeds 1 --n 40 --steps 2'],
    ['--save', '--save --n 40'],
  ]);
  expect(readFileSync('runs/lambda/sweep.md', 'utf8')).toMatch(/λ = 0\.3 when sampling/);
  await runBlocks('docs/choosing-lambda.md', folder, [['seed: 0, iso', 'seed: 0, num_inference_steps: 2, iso']]);
}, 240_000);

it('docs/devices.md asks for the best device', async () => {
  const grey = '--max-steps 1 --batch-size 2 --sample-every 0 --model tiny-grey.json';
  await runCommands('docs/devices.md', [
    ['--max-steps 20', grey],
    ['--n 4 --steps 5', '--n 1 --steps 2'],
  ]);
}, 240_000);

it('docs/custom.md has a loss, a model with data, and a scheduler', async () => {
  await runBlocks('docs/custom.md', folder, [
    ['num_train_epochs: 100', 'max_steps: 4'],
    ['max_steps: 2000', 'max_steps: 4'],
  ]);
  expect(readFileSync('runs/logistic/metrics.jsonl', 'utf8')).toMatch(/"largest_error":\d/);
  expect(existsSync('runs/spiral/pipeline/unet/model.onnx')).toBe(true);
}, 240_000);

it('docs/command-line.md shows each command', async () => {
  const count = await runCommands('docs/command-line.md', [
    ['--epochs 200', '--max-steps 4 --batch-size 4 --sample-every 0'],
    ['--model small', '--model tiny-grey.json'],
    ['--steps 20', '--steps 2'],
    [/--n \d+/g, '--n 40'],
    ['--out points.csv', '--n 40 --out points.csv'],
    ['--plot', '--n 40 --steps 2 --plot'],
    ['--output isotropy', '--n 50 --output isotropy'],
    ['--preset smoke', '--preset smoke --epochs 1 --runs 1 --points 100'],
    ['--seeds 2 --epochs 100', '--seeds 1 --epochs 1 --at-sampling --n 40 --steps 2'],
  ]);
  expect(count).toBe(12);
  expect(existsSync('points.csv') && existsSync('scatter.png')).toBe(true);
}, 240_000);

const tinyUNet = {
  sample_size: 8,
  in_channels: 3,
  out_channels: 3,
  block_out_channels: [8, 8],
  down_block_types: ['DownBlock2D', 'DownBlock2D'],
  up_block_types: ['UpBlock2D', 'UpBlock2D'],
  layers_per_block: 1,
  norm_num_groups: 4,
};

/** The program of README and tutorial with that network. */
const tinyProgram: readonly Change[] = [
  ["unet2DPreset('small', { sample_size: 32 })", JSON.stringify(tinyUNet)],
  [', unet2DPreset }', ' }'],
  ['resolution: 32', 'resolution: 8'],
  ['num_train_epochs: 100', 'max_steps: 1'],
  ['batch_size: 16', 'batch_size: 2'],
];
