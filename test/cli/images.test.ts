import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tinyUNetConfig } from '../models/tiny-unet.ts';
import { runCli, runHere, runInterrupted } from './run-cli.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-cli-images-'));
const at = (...names: string[]) => path.join(folder, ...names);
const cli = (line: string) => runHere(line.trim().split(' '));
/** In a process of its own. */
const apart = (line: string) => runCli(line.split(' '), folder);

beforeAll(async () => {
  process.chdir(folder);
  mkdirSync(at('flat'));
  const red = { width: 8, height: 8, channels: 3, background: 'red' } as const;
  await sharp({ create: red }).png().toFile(at('flat', 'a.png'));
  mkdirSync(at('wide'));
  const ramp = Uint8Array.from({ length: 32 * 8 }, (_, i) => (i % 32) * 8);
  for (const name of ['a.png', 'b.png'])
    await sharp(ramp, { raw: { width: 32, height: 8, channels: 1 } })
      .png()
      .toFile(at('wide', name));
  writeFileSync(at('tiny.json'), JSON.stringify(tinyUNetConfig));
  writeFileSync(at('fixed.json'), JSON.stringify({ ...tinyUNetConfig, in_channels: 1, out_channels: 1 }));
  for (const [kind, hue] of [
    ['warm', 200],
    ['cold', 20],
  ] as const) {
    mkdirSync(at('photos', kind), { recursive: true });
    for (let i = 0; i < 6; i++)
      await sharp({
        create: { width: 20 + i, height: 24, channels: 3, background: { r: hue, g: 30 * i, b: 220 - hue } },
      })
        .png()
        .toFile(at('photos', kind, `${i}.png`));
  }
  writeFileSync(at('photos', 'warm', 'broken.jpg'), 'this is no image');
});
afterAll(() => {
  process.chdir('/');
  rmSync(folder, { recursive: true, force: true });
});

const weights = (run: string) =>
  readFileSync(at(run, 'pipeline/unet/diffusion_pytorch_model.safetensors')).toString('base64');

describe('images on the command line', () => {
  it('are trained on with classes, and drawn as a grid and into a folder', async () => {
    const trained = await cli(
      'train --dataset photos --cache-dir cache --resolution 8 --model tiny.json --class-conditional --class-dropout-prob 0.2 --random-flip --ema --batch-size 4 --gradient-accumulation-steps 2 --max-steps 6 --sample-every 4 --sample-count 4 --device cpu --output run',
    );
    expect(trained.code).toBe(0);
    expect(trained.stdout).toMatch(/photos: 12 images of 8x8x3, 1 skipped; model: .* parameters, 3 classes/);
    expect(trained.stdout).toMatch(/step 6: loss \d.*isotropy \d/);
    expect(trained.stderr).toMatch(/^warning: .*photos: 1 entry left out: warm\/broken.jpg \(not a PNG/);
    const config = JSON.parse(readFileSync(at('run/pipeline/unet/config.json'), 'utf8'));
    expect(config).toMatchObject({ sample_size: 8, in_channels: 3, num_class_embeds: 3 });
    expect(existsSync(at('run/pipeline/unet_ema/model.onnx'))).toBe(true);
    expect(existsSync(at('run/loss.png'))).toBe(true);

    const draw =
      'generate --model run --class-labels 0 1 --guidance-scale 2 --scheduler ddim --eta 0.5 --steps 3 --device cpu';
    const drawn = await cli(`${draw} --n 5 --batch-size 2 --out samples grid.png`);
    expect(drawn).toMatchObject({ code: 0, stdout: '5 images: samples, grid.png\n', stderr: '' });
    expect(readdirSync(at('samples'))).toHaveLength(6);
    // 3 columns and 2 rows of 8 pixels at scale 8, with gaps of 2.
    expect(await sharp(at('grid.png')).metadata()).toMatchObject({ width: 3 * 66 + 2, height: 2 * 66 + 2 });

    const first = readFileSync(at('samples/000001.png'));
    rmSync(at('samples/000001.png'));
    expect(await cli(`${draw} --n 6 --batch-size 5 --out samples`)).toMatchObject({ code: 0 });
    expect(readFileSync(at('samples/000001.png')).equals(first)).toBe(true);
    expect(readdirSync(at('samples'))).toHaveLength(7);
    const other = await cli(`${draw} --n 6 --seed 1 --out samples`);
    expect(other).toMatchObject({ code: 2, stderr: expect.stringMatching(/seed 0 there, 1 here/) });

    expect((await cli(`${draw} --n 1 --out one.png`)).code).toBe(0);
    expect(await sharp(at('one.png')).metadata()).toMatchObject({ width: 8, height: 8, channels: 3 });
  }, 180_000);

  it('are trained on from a saved pipeline and from an ONNX file', async () => {
    const train =
      'train --dataset photos --cache-dir cache --max-steps 2 --batch-size 4 --device cpu --lambda 0.1 --sample-every 0';
    expect((await cli(`${train} --model tiny.json --resolution 8x12 --output base`)).code).toBe(0);
    const tuned = await cli(`${train} --init-from base --output tuned --lr 0`);
    expect(tuned.stdout).toMatch(/12 images of 8x12x3/);
    // A learning rate of 0 leaves the weights where they began: those of the saved model.
    expect(weights('tuned')).toBe(weights('base'));
    const onnx = await cli(`${train} --init-from base/pipeline/unet/model.onnx --output from-onnx`);
    expect(onnx).toMatchObject({ code: 0 });
    const drawn = await cli('generate --model from-onnx --n 2 --steps 2 --device cpu --out onnx.png');
    expect(drawn).toMatchObject({ code: 0, stdout: '2 images: onnx.png\n' });

    const edit = 'generate --model base --scheduler dpm++ --steps 4 --device cpu';
    await sharp({ create: { width: 8, height: 8, channels: 3, background: 'black' } })
      .png()
      .toFile(at('kept.png'));
    const from = '--init-image flat/a.png --mask kept.png --jump-length 1 --jump-n-sample 2';
    expect(await cli(`${edit} --n 1 ${from} --out same.png`)).toMatchObject({ code: 0, stderr: '' });
    const { data } = await sharp(at('same.png')).raw().toBuffer({ resolveWithObject: true });
    expect([...data]).toEqual(Array.from({ length: 8 * 12 }, () => [255, 0, 0]).flat());
    const folderOf = await cli(`${edit} --n 2 --init-image flat/a.png --strength 0.5 --out edited`);
    expect(folderOf).toMatchObject({ code: 0, stdout: '2 images: edited\n' });
    const between = await cli(`${edit} --n 3 --interpolate 1 2 --out between.png`);
    expect(between).toMatchObject({ code: 0, stdout: '3 images: between.png\n' });
    for (const [flags, message] of [
      ['--init-image flat/a.png --strength 1.5', /strength is 1.5, but must be in \[0, 1\]/],
      ['--mask kept.png', /mask_image was given without image/],
      ['--init-image flat/a.png --mask photos/warm/0.png', /mask_image is 24x20, but the image 8x8/],
      ['--interpolate 1', /must be two seeds/],
      ['--interpolate 1 2 --out frames', /--interpolate draws a grid: give a .png/],
      ['--interpolate 1 2 --init-image flat/a.png', /give one of them/],
    ] as const)
      expect(await cli(`${edit} ${flags}`)).toMatchObject({ code: 2, stderr: expect.stringMatching(message) });
  }, 180_000);

  it('are cropped at random, and a model learns its variance with dropout', async () => {
    const train = 'train --dataset wide --cache-dir cache --max-steps 2 --batch-size 4 --device cpu --sample-every 0';
    const learn = `${train} --model tiny.json --resolution 8 --learn-variance --vlb-weight 0.01 --dropout 0.25`;
    const trained = await cli(`${learn} --random-crop --output variance`);
    expect(trained).toMatchObject({ code: 0, stdout: expect.stringMatching(/parameters, learned variance/) });
    const saved = (...names: string[]) =>
      JSON.parse(readFileSync(at('variance/pipeline', ...names), 'utf8')) as unknown;
    expect(saved('unet/config.json')).toMatchObject({ in_channels: 3, out_channels: 6, dropout: 0.25 });
    expect(saved('scheduler/scheduler_config.json')).toMatchObject({ variance_type: 'learned_range' });
    expect(readFileSync(at('variance/pipeline/README.md'), 'utf8')).toMatch(/vlb&#95;weight.{1,12}0\.01/);
    await cli(`${learn} --output centred`);
    expect(weights('variance')).not.toBe(weights('centred'));

    const tuned = await cli(`${train} --init-from variance --loss simple --output variance-tuned`);
    expect(tuned).toMatchObject({ code: 0, stdout: expect.stringMatching(/parameters, learned variance/) });
    const drawn = await cli('generate --model variance-tuned --n 1 --steps 2 --device cpu --out learned.png');
    expect(drawn).toMatchObject({ code: 0, stdout: '1 image: learned.png\n' });
  }, 180_000);

  it('are kept when Ctrl-C comes, and the resumed run equals an unbroken one', async () => {
    writeFileSync(
      at('run.yaml'),
      'dataset: digits\nmodel: tiny.json\nper_device_train_batch_size: 4\nuse_ema: true\nmax_steps: 120\nlogging_steps: 5\nsave_steps: 20\nrandom_flip: true\ndevice: cpu\nsample_every: 0\n',
    );
    const stopped = await runInterrupted(['train', '--config', 'run.yaml'], folder, 'broken');
    expect(stopped).toMatchObject({
      code: 130,
      stderr: expect.stringMatching(/stopped at step \d+ of 120; continue with the same command and --resume/),
    });
    // In processes too, because bits depend on the number of threads.
    expect((await apart('train --config run.yaml --output broken --resume')).code).toBe(0);
    expect((await apart('train --config run.yaml --output unbroken')).code).toBe(0);
    expect(weights('broken')).toBe(weights('unbroken'));
  }, 240_000);

  it.each([
    ['train --dataset digit', /data set 'digit' is unknown.*Did you mean 'digits'\?/],
    ['train --dataset ./phots', /'.\/phots' is unknown: use swiss-roll.*digits.*there is none at this path/],
    ['train --dataset digits --model ddpm-cifar', /--model 'ddpm-cifar' is unknown.*Did you mean 'ddpm-cifar10'\?/],
    ['train --dataset digits --resolution big', /--resolution.*must be a side in pixels/],
    ['train --dataset digits --hidden-features 8', /--hidden-features.* is for points, but 'digits' has images/],
    ['train --dataset moons --random-flip', /--random-flip is for images, but 'moons' has points/],
    ['train --dataset digits --init-from nowhere', /there is no folder 'nowhere', and it is not a Hub id/],
    ['train --dataset digits --init-from x.onnx --model small', /leave out --model/],
    ['train --dataset digits --init-from runs/x --beta-schedule linear', /leave out --beta-schedule/],
    ['train --dataset digits --class-dropout-prob 0.1', /needs --class-conditional/],
    ['train --dataset digits --random-crop --stretch', /--random-crop and --stretch exclude each other/],
    ['train --dataset digits --dropout 1', /dropout/],
    ['train --dataset digits --vlb-weight 0.01', /--vlb-weight is 0.01.*add --learn-variance/],
    ['train --dataset digits --learn-variance --vlb-weight -1', /vlb_weight.*>= 0, but is -1/],
    [
      'train --dataset digits --model fixed.json --learn-variance',
      /--learn-variance needs out_channels 2 .* --model has 1/,
    ],
    ['train --dataset digits --init-from x.onnx --learn-variance', /leave out --learn-variance/],
    ['train --dataset moons --learn-variance', /--learn-variance is for images, but 'moons' has points/],
    [
      'train --dataset flat --cache-dir cache --class-conditional --resolution 8',
      /needs labels, but '.*flat' has none/,
    ],
    ['train --dataset digits --batch 4 ', /unknown option '--batch'/],
    ['generate', /--model.*name the folder of a pipeline/],
    ['generate --model nowhere', /there is no folder 'nowhere', and it is not a Hub id/],
    ['generate --model photos', /'photos' is not a pipeline/],
    ['generate --model nowhere.onnx --out x.jpg', /--out 'x.jpg' must be a folder or end in .png/],
    ['generate --model nowhere.onnx --out a b', /one folder and one .png/],
    ['generate --model nowhere.onnx --n 5000', /a grid holds at most 4096/],
    ['generate --model nowhere.onnx', /nowhere.onnx/],
    ['generate --model nowhere.onnx --class-labels one', /must be class numbers/],
    ['generate --model nowhere.onnx --condition wide --n 3', /--condition 'wide' has 2 image files, but 3 samples/],
    ['train --dataset wide --condition-channels 1', /--condition-channels is of the images of --condition-dataset/],
  ])('%s is refused with exit code 2', async (line, message) => {
    const { code, stderr } = await cli(line);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/\n\s+at /);
    expect(code).toBe(2);
  });
});
