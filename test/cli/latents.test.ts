import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { saveAutoencoder } from '../../src/autoencoders/save-autoencoder.ts';
import { initialParameters } from '../../src/models/model.ts';
import { tinyKl } from '../autoencoders/saved-autoencoder.ts';
import { tinyUNetConfig } from '../models/tiny-unet.ts';
import { runHere } from './run-cli.ts';

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
  await saveAutoencoder(at('kl'), autoencoder, initialParameters(autoencoder, 0));
});
afterAll(() => {
  process.chdir('/');
  rmSync(folder, { recursive: true, force: true });
});

describe('latent diffusion on the command line', () => {
  it('trains on the latents of an autoencoder, shows samples, and draws, measures and goes on with the pipeline', async () => {
    const common = '--dataset photos --cache-dir cache --device cpu --batch-size 4';
    const trained = await cli(
      `train ${common} --model tiny.json --autoencoder ./kl --posterior mean --random-flip --max-steps 2 --sample-every 2 --sample-count 4 --output run`,
    );
    expect(trained.stderr).toBe('');
    expect(trained).toMatchObject({ code: 0 });
    // The size of the images, and their colours, are the autoencoder's.
    expect(trained.stdout).toMatch(/photos: 6 images of 8x8x1, latents of 4x4x2; model: /);
    expect(existsSync(at('run/samples/step-0000002.png'))).toBe(true);
    expect(json('run/pipeline/model_index.json')).toMatchObject({
      _class_name: 'LDMPipeline',
      vqvae: ['diffusers', 'AutoencoderKL'],
    });
    expect(json('run/pipeline/unet/config.json')).toMatchObject({ sample_size: 4, in_channels: 2, out_channels: 2 });
    expect(json('run/pipeline/scheduler/scheduler_config.json')).toMatchObject({ clip_sample: false });
    const { scaling_factor } = json('run/pipeline/vqvae/config.json');
    expect(scaling_factor).not.toBe(tinyKl().scaling.factor);
    expect(readFileSync(at('run/pipeline/README.md'), 'utf8')).toMatch(
      /latents of an AutoencoderKL[\s\S]*import LDMPipeline, UNet2DModel/,
    );

    const drawn = await cli(
      'generate --model run/pipeline --n 4 --scheduler ddim --steps 2 --scale 1 --out grid.png --device cpu',
    );
    expect(drawn).toMatchObject({ code: 0 });
    expect(await sharp(at('grid.png')).metadata()).toMatchObject({ width: 22, height: 22 });
    const measured = await cli('analyze --model run/pipeline --dataset photos --save --device cpu');
    expect(measured.stdout).toMatch(/isotropy \d/);
    const evaluated = await cli(
      'evaluate --real photos --fake run/pipeline --metrics fid --extractor raw-pixels --n 8 --scheduler ddim --steps 2 --resolution 8 --device cpu',
    );
    expect(evaluated.stdout).toMatch(/fid/);

    const tuned = await cli(`train ${common} --init-from run/pipeline --max-steps 1 --output tuned`);
    expect(tuned).toMatchObject({ code: 0 });
    expect(json('tuned/pipeline/vqvae/config.json').scaling_factor).toBe(scaling_factor);
  }, 120_000);

  it('refuses options without an autoencoder, and an autoencoder that does not fit', async () => {
    const train = (options: string) =>
      cli(`train --dataset photos --cache-dir cache --device cpu --max-steps 1 --output no ${options}`);
    expect((await train('--scaling-factor 2')).stderr).toMatch(
      /--scaling-factor is for latent diffusion: name the autoencoder/,
    );
    expect((await train('--autoencoder ./kl --scaling-factor 0')).stderr).toMatch(
      /is 0, but must be a finite number above 0/,
    );
    expect((await train('--autoencoder ./kl --resolution 9')).stderr).toMatch(
      /9x9 pixels do not fit the AutoencoderKL/,
    );
    expect((await train('--autoencoder ./kl --channels 3')).stderr).toMatch(
      /have 3 channels, but the AutoencoderKL encodes images of 1/,
    );
    expect((await train('--autoencoder ./none')).stderr).toMatch(/none/);
    expect(existsSync(at('no'))).toBe(false);
  });
});
