import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { saveAutoencoder } from '../../src/autoencoders/save-autoencoder.ts';
import { initialParameters } from '../../src/models/model.ts';
import { tinyKl } from '../autoencoders/saved-autoencoder.ts';
import { tinyUNetConfig } from '../models/tiny-unet.ts';
import { runExample } from '../run-example.ts';
import { runHere } from './run-cli.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'iso-cli-latents-'));
const at = (...names: string[]) => path.join(folder, ...names);
const cli = (line: string) => runHere(line.trim().split(/\s+/));
const json = (file: string) => JSON.parse(readFileSync(at(file), 'utf8'));

beforeAll(async () => {
  process.chdir(folder);
  mkdirSync(at('photos'));
  for (let i = 0; i < 6; i++)
    await sharp({ create: { width: 8 + i, height: 8, channels: 3, background: { r: 40 * i, g: 90, b: 250 - 40 * i } } })
      .png()
      .toFile(at('photos', `${i}.png`));
  writeFileSync(at('tiny.json'), JSON.stringify(tinyUNetConfig));
  const autoencoder = tinyKl();
  await saveAutoencoder(at('runs/autoencoder/autoencoder'), autoencoder, initialParameters(autoencoder, 0));
});
afterAll(() => {
  process.chdir('/');
  rmSync(folder, { recursive: true, force: true });
});

const guide = readFileSync(new URL('../../docs/latent-diffusion.md', import.meta.url), 'utf8');
/** The arguments of a command of the guide. */
const documented = (command: string) =>
  new RegExp(`^npx iso-diffusion (${command} .*)$`, 'm').exec(guide)?.[1] ?? `no ${command} in the guide`;

describe('latent diffusion on the command line', () => {
  it('trains on the latents of an autoencoder, and draws, measures and goes on with the pipeline', async () => {
    const common = '--dataset photos --cache-dir cache --device cpu --batch-size 4';
    const trained = await cli(
      `${documented('train')} --cache-dir cache --device cpu --batch-size 4 --model tiny.json --posterior mean --random-flip --max-steps 2 --sample-every 0 --report-to tensorboard`,
    );
    expect(trained).toMatchObject({ code: 0 });
    // The size of the images, and their colours, are the autoencoder's.
    expect(trained.stdout).toMatch(/photos: 6 images of 8x8x1, latents of 4x4x2; model: /);
    expect(json('runs/latent/pipeline/model_index.json')).toMatchObject({
      _class_name: 'LDMPipeline',
      vqvae: ['diffusers', 'AutoencoderKL'],
    });
    expect(json('runs/latent/pipeline/unet/config.json')).toMatchObject({
      sample_size: 4,
      in_channels: 2,
      out_channels: 2,
    });
    expect(json('runs/latent/pipeline/scheduler/scheduler_config.json')).toMatchObject({ clip_sample: false });
    const { scaling_factor } = json('runs/latent/pipeline/vqvae/config.json');
    expect(scaling_factor).not.toBe(tinyKl().scaling.factor);
    expect(readFileSync(at('runs/latent/pipeline/README.md'), 'utf8')).toMatch(
      /latents of an AutoencoderKL[\s\S]*import LDMPipeline, UNet2DModel/,
    );

    const drawn = await cli(`${documented('generate')} --n 4 --steps 2 --scale 1 --device cpu`);
    expect(drawn).toMatchObject({ code: 0 });
    expect(await sharp(at('grid.png')).metadata()).toMatchObject({ width: 22, height: 22 });
    const measured = await cli('analyze --model runs/latent/pipeline --dataset photos --save --device cpu');
    expect(measured.stdout).toMatch(/isotropy \d/);
    const evaluated = await cli(
      'evaluate --real photos --fake runs/latent/pipeline --metrics fid --extractor raw-pixels --n 8 --scheduler ddim --steps 2 --resolution 8 --device cpu',
    );
    expect(evaluated.stdout).toMatch(/fid/);

    const tuned = await cli(
      `train ${common} --init-from runs/latent/pipeline --max-steps 1 --sample-every 0 --report-to tensorboard --output tuned`,
    );
    expect(tuned).toMatchObject({ code: 0 });
    expect(json('tuned/pipeline/vqvae/config.json').scaling_factor).toBe(scaling_factor);
  }, 120_000);

  it('is what the example of the guide shows', async () => {
    const [, example = ''] = /```ts\n([\s\S]*?)```/.exec(guide) ?? [];
    const changes = [
      ["'iso-diffusion'", `'${path.join(root, 'src/index.ts')}'`],
      ['resolution: 32', 'resolution: 8, channels: 1'],
      ['32 / downsampling', '8 / downsampling'],
      ['num_train_epochs: 100', 'max_steps: 2'],
      ['use_ema: true', 'use_ema: false'],
      ['num_inference_steps: 20', 'num_inference_steps: 2'],
      ['runs/latent', 'runs/program'],
    ] as const;
    const short = changes.reduce((text, [from, to]) => {
      expect(text).toContain(from);
      return text.replaceAll(from, to);
    }, example);
    writeFileSync(at('example.mts'), short);
    await runExample(at('example.mts'), [], folder);
    expect(await sharp(at('image.png')).metadata()).toMatchObject({ width: 8, height: 8 });
    expect(json('runs/program/pipeline/model_index.json')).toMatchObject({ _class_name: 'LDMPipeline' });
  }, 120_000);

  it('refuses options without an autoencoder, and an autoencoder that does not fit', async () => {
    const train = (options: string) =>
      cli(`train --dataset photos --cache-dir cache --device cpu --max-steps 1 --output no ${options}`);
    expect((await train('--scaling-factor 2')).stderr).toMatch(
      /--scaling-factor is for latent diffusion: name the autoencoder/,
    );
    expect((await train('--autoencoder runs/autoencoder/autoencoder --scaling-factor 0')).stderr).toMatch(
      /is 0, but must be a finite number above 0/,
    );
    expect((await train('--autoencoder runs/autoencoder/autoencoder --resolution 9')).stderr).toMatch(
      /9x9 pixels do not fit the AutoencoderKL/,
    );
    expect((await train('--autoencoder runs/autoencoder/autoencoder --channels 3')).stderr).toMatch(
      /have 3 channels, but the AutoencoderKL encodes images of 1/,
    );
    expect((await train('--autoencoder ./none')).stderr).toMatch(/none/);
    expect(existsSync(at('no'))).toBe(false);
  });
});
