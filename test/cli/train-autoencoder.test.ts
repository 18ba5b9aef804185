import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { newAutoencoder } from '../../src/cli/options/new-autoencoder.ts';
import { tinyAutoencoders } from '../trainers/small-autoencoder-trainer.ts';
import { runHere } from './run-cli.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-cli-autoencoder-'));
const cli = (line: string) => runHere(['train-autoencoder', ...line.trim().split(/\s+/)]);
const small = '--n 24 --batch-size 4 --logging-steps 1 --device cpu';

beforeAll(() => {
  process.chdir(folder);
  for (const kind of ['kl', 'vq'] as const)
    writeFileSync(`${kind}.json`, JSON.stringify(tinyAutoencoders[kind]().config));
});
afterAll(() => {
  process.chdir('/');
  rmSync(folder, { recursive: true, force: true });
});

it('train-autoencoder trains, says how well images come back, saves, and goes on', async () => {
  const run = `digits --model vq.json ${small} --ema --eval-dataset digits --eval-steps 2 --commitment-weight 0.5 --output_dir run`;
  const trained = await cli(`${run} --max-steps 2`);
  expect(trained.stderr).toBe('');
  expect(trained.code).toBe(0);
  expect(trained.stdout).toMatch(/digits: 24 images of 8x8x1; VQModel: 0.0 million parameters, latents of 4x4x2/);
  expect(trained.stdout).toMatch(/step 2: loss \d.*commitment \d.*psnr \d+\.\d\d dB\nautoencoder: run.autoencoder/);
  expect(JSON.parse(readFileSync('run/autoencoder/config.json', 'utf8'))).toMatchObject({ _class_name: 'VQModel' });
  expect((await cli(`${run} --max-steps 3`)).stderr).toMatch(/already exists: continue with --resume/);
  expect((await cli(`${run} --max-steps 3 --resume`)).stdout).toMatch(/^step 3: /m);
  // The folder is a model to begin another from.
  const again = await cli(`digits --model run/autoencoder ${small} --max-steps 1 --output_dir again`);
  expect(again.stdout).toMatch(/VQModel/);
});

it.each([
  ['no images', '--max-steps 1', /name the images once/],
  ['images twice', 'digits --dataset digits', /name the images once/],
  ['an unknown model', 'digits --model smal', /'smal' is unknown.*small/],
  ['a codebook of a kl autoencoder', 'digits --n 8 --resolution 8 --num-vq-embeddings 9', /belongs to --kind vq/],
  ['the weight of no network', 'digits --perceptual-weight 2', /--perceptual-weight is given, but needs --perceptual/],
  ['the split of no set', 'digits --eval-split test', /--eval-split is given, but needs --eval-dataset/],
  ['two crops', 'digits --random-crop --stretch', /exclude each other/],
  ['a negative weight', 'digits --kl-weight -1', /kl_weight must be a finite number >= 0/],
  ['an option of diffusion', 'digits --noise-offset 0.1', /noise-offset/],
])('train-autoencoder refuses %s', async (_, line, message) => {
  const { code, stderr } = await cli(line);
  expect(code).toBe(2);
  expect(stderr).toMatch(message);
});

it('its presets have the sizes that they are said to have, sd that of Stable Diffusion', () => {
  const sizeOf = (model: string) => {
    const { parameters, downsampling } = newAutoencoder(undefined, { model } as Parameters<typeof newAutoencoder>[1], {
      channels: 3,
      height: 64,
      width: 64,
    });
    return [parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0), downsampling];
  };
  expect(['small', 'medium', 'sd'].map(sizeOf)).toEqual([
    [954_567, 4],
    [5_120_039, 4],
    [83_653_863, 8],
  ]);
});
