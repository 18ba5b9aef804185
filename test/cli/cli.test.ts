import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readSettings } from '../../src/cli/options/command-options.ts';
import { deviceOption } from '../../src/cli/options/shared-options.ts';
import { runCli, runHere, runInterrupted } from './run-cli.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'iso-cli-'));
  process.chdir(folder);
});
afterAll(() => {
  process.chdir('/');
  rmSync(folder, { recursive: true, force: true });
});

/** In a process of its own. */
const cli = (args: string[]) => runCli(args, folder);
const small = ['--device', 'cpu', '--hidden-features', '16', '--batch-size', '64', '--n', '200'];

describe('iso-diffusion', () => {
  it.each([
    'train',
    'estimate',
    'train-autoencoder',
    'generate',
    'evaluate',
    'analyze',
    'convert-extractor',
    'doctor',
    'push',
    'from-diffusers',
  ])('%s --help shows an example', async (command) => {
    const { code, stdout } = await runHere([command, '--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(new RegExp(`Examples?:\\n +iso-diffusion ${command}`));
  });

  it('trains, generates, evaluates and analyzes, and stays quiet off a terminal', async () => {
    const trained = await cli([
      'train',
      '--dataset',
      'moons',
      ...small,
      '--max-steps',
      '20',
      '--logging-steps',
      '5',
      '--sample-every',
      '0',
      '--onnx-dtype',
      'fp16',
      '--output',
      'run',
    ]);
    expect(trained).toMatchObject({ code: 0, stderr: '' });
    expect(existsSync(path.join(folder, 'run/pipeline/unet/model_fp16.onnx'))).toBe(true);
    expect(existsSync(path.join(folder, 'run/pipeline/unet/model.onnx'))).toBe(true);
    expect(existsSync(path.join(folder, 'run/loss.png'))).toBe(true);

    const generated = await cli([
      'generate',
      '--model',
      'run/pipeline',
      '--n',
      '30',
      '--scheduler',
      'ddim',
      '--steps',
      '5',
      '--device',
      'cpu',
      '--out',
      'points.csv',
    ]);
    expect(generated).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(path.join(folder, 'points.csv'), 'utf8').trim().split('\n')).toHaveLength(30);

    const evaluated = await cli([
      'evaluate',
      '--real',
      'moons',
      '--n',
      '50',
      '--fake',
      'points.csv',
      '--plot',
      'scatter.png',
      '--json',
    ]);
    expect(existsSync(path.join(folder, 'scatter.svg'))).toBe(true);
    expect(existsSync(path.join(folder, 'scatter.png'))).toBe(true);
    expect(evaluated.code).toBe(0);
    expect(JSON.parse(evaluated.stdout)).toMatchObject({
      k: 5,
      real_count: 50,
      fake_count: 30,
      precision: expect.any(Number),
      coverage: expect.any(Number),
    });

    const analyzed = await cli([
      'analyze',
      '--dataset',
      'moons',
      '--n',
      '100',
      '--timesteps',
      '3',
      '--model',
      'run/pipeline',
      '--device',
      'cpu',
      '--output',
      'analysis',
      '--json',
    ]);
    expect(analyzed.code).toBe(0);
    expect(() => JSON.parse(analyzed.stdout)).not.toThrow();
    expect(existsSync(path.join(folder, 'analysis/isotropy.csv'))).toBe(true);

    const saved = path.join(folder, 'run/pipeline/unet/isotropy.json');
    rmSync(saved);
    const measured = await cli([
      'analyze',
      '--dataset',
      'moons',
      '--model',
      'run/pipeline',
      '--device',
      'cpu',
      '--save',
    ]);
    expect(measured).toMatchObject({ code: 0, stderr: '' });
    expect(measured.stdout).toMatch(/^isotropy [\d.]+, standard error [\d.]+, 65536 samples: .*isotropy.json/);
    expect(JSON.parse(readFileSync(saved, 'utf8'))).toMatchObject({ lambda: 0, samples: 65_536 });
    const scaled = ['--steps', '4', '--n', '3', '--iso-lambda', '0.2', '--out', 'scaled.csv', '--device', 'cpu'];
    expect((await cli(['generate', '--model', 'run/pipeline', ...scaled])).code).toBe(0);
    const refused = await cli(['analyze', '--dataset', 'moons', '--save']);
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringMatching(/--save needs --model/) });
  });

  it('on Ctrl-C saves and exits 130; the resumed run equals an unbroken one', async () => {
    const args = [
      'train',
      ...small,
      '--sample-every',
      '1500',
      '--max-steps',
      '3000',
      '--save-steps',
      '100',
      '--logging-steps',
      '50',
      '--seed',
      '5',
    ];
    const stopped = await runInterrupted(args, folder, 'broken');
    expect(stopped.code).toBe(130);
    expect(stopped.stderr).toMatch(/interrupted/);
    expect((await cli([...args, '--output', 'broken', '--resume', 'latest'])).code).toBe(0);
    expect((await cli([...args, '--output', 'unbroken'])).code).toBe(0);
    const weights = (run: string) =>
      readFileSync(path.join(folder, run, 'pipeline/unet/diffusion_pytorch_model.safetensors'));
    expect(weights('broken').equals(weights('unbroken'))).toBe(true);
  }, 300_000);

  it('names a damaged checkpoint and goes on from the one before', async () => {
    const args = ['train', ...small, '--save-steps', '5', '--sample-every', '0', '--output', 'damaged'];
    expect((await runHere([...args, '--max-steps', '10'])).code).toBe(0);
    const file = path.join(folder, 'damaged/checkpoint-10/trainer_state.json');
    writeFileSync(file, readFileSync(file, 'utf8').slice(0, -20));
    const resumed = await runHere([...args, '--max-steps', '15', '--resume', 'latest']);
    expect(resumed.code).toBe(0);
    expect(resumed.stderr).toMatch(/warning: damaged\/checkpoint-10 is damaged and left out/);
    expect(resumed.stdout).toMatch(/^step 15:/);
  }, 60_000);

  it('takes options from a file, and flags over it', async () => {
    writeFileSync(
      path.join(folder, 'run.yaml'),
      'dataset: s-curve\nmax_steps: 3\nhidden_features: 16\nn: 100\nper_device_train_batch_size: 32\ndevice: cpu\nsample_every: 0\noutput_dir: from-file\n',
    );
    expect(await runHere(['train', '--config', 'run.yaml', '--max-steps', '2'])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('step 2:'),
    });
    writeFileSync(path.join(folder, 'wrong.yaml'), 'epoch: 3\n');
    expect(await runHere(['train', '--config', 'wrong.yaml'])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/unknown option 'epoch'.*num_train_epochs/),
    });
  });

  it.each([
    [['train', '--dataset', 'spiral'], /data set 'spiral' is unknown: use swiss-roll/],
    [['train', '--dataset', 'nan.csv'], /nan.csv, line 2, column 1: 'NaN' is not a finite number/],
    [['train', '--lambda', '-1'], /lambda/],
    [['train', '--epochs', 'many'], /--epochs.*expected number/],
    [['generate', '--model', 'nowhere'], /nowhere/],
    [['generate', '--model', 'nowhere.onnx', '--out', 'x.npy'], /must be a folder or end in .png/],
    [['evaluate', '--real', 'moons', '--n', '3', '--fake', 'few.csv'], /3/],
    [['convert-extractor', '--weights', 'vgg16-397923af.pth'], /vgg16-397923af.pth does not exist/],
    // `train` takes the same names.
    [['sweep', '--dataset', 'digits', '--model', 'tiny'], /--model.*expected one of "ddpm-cifar10"/],
    [['sing'], /unknown command 'sing'/],
  ])('%j is refused with exit code 2', async (args, message) => {
    writeFileSync(path.join(folder, 'nan.csv'), '1,2\nNaN,3\n');
    writeFileSync(path.join(folder, 'few.csv'), '1,2\n3,4\n');
    const { code, stderr } = await runHere(args);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/\n\s+at /);
    expect(code).toBe(2);
  });

  it('listens for a broken output once, however often it is called', async () => {
    await runHere(['--version']);
    const before = process.stdout.listenerCount('error') + process.stderr.listenerCount('error');
    await runHere(['--version']);
    expect(process.stdout.listenerCount('error') + process.stderr.listenerCount('error')).toBe(before);
  });

  it('prints help, and refuses what it does not know, as a process', async () => {
    expect(await cli(['train', '--help'])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('Examples'),
      stderr: '',
    });
    const refused = await cli(['train', '--dataset', 'spiral']);
    expect(refused).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining("'spiral' is unknown") });
  });

  it('doctor reports every device', async () => {
    const { code, stdout } = await runHere(['doctor', '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout).devices.map(({ device }: { device: string }) => device)).toEqual([
      'cpu',
      'webgpu',
      'cuda',
    ]);
    expect(JSON.parse(stdout)).toMatchObject({ auto: { points: 'cpu' }, devices: [{}, {}, { tf32: true }] });
  });

  it('chooses a GPU for the process and those that it starts', async () => {
    const table = { device: deviceOption() };
    expect(await readSettings(table, { deviceId: '2' })).toEqual({ device: 'auto' });
    expect(process.env.ISO_DIFFUSION_DEVICE_ID).toBe('2');
    delete process.env.ISO_DIFFUSION_DEVICE_ID;
    await expect(readSettings(table, { deviceId: 'first' })).rejects.toThrow('option --device-id <number>');
  });

  it('sets tf32 for the process, by a flag or the config file', async () => {
    const config = path.join(folder, 'tf32.yaml');
    writeFileSync(config, 'tf32: true\n');
    const table = { device: deviceOption() };
    expect(await readSettings(table, { tf32: 'false', config })).toEqual({ device: 'auto' });
    expect(process.env.NVIDIA_TF32_OVERRIDE).toBe('0');
    await readSettings(table, { config });
    expect(process.env.NVIDIA_TF32_OVERRIDE).toBeUndefined();
    await expect(readSettings(table, { tf32: 'maybe' })).rejects.toThrow('--tf32 <boolean>: must be true or false');
  });

  it('draws in half precision, and refuses to train in bfloat16', async () => {
    const short = ['--max-steps', '2', '--sample-every', '0', '--onnx-dtype', 'fp16', '--output', 'in-half'];
    expect(await runHere(['train', '--dataset', 'moons', ...small, ...short])).toMatchObject({ code: 0 });
    const drawing = ['--dtype', 'fp16', '--n', '5', '--steps', '2', '--out', 'in-half.csv'];
    const drawn = await runHere(['generate', '--model', 'in-half/pipeline', ...drawing]);
    expect(drawn).toMatchObject({ code: 0, stderr: '' });
    const refused = await runHere(['train', '--dataset', 'moons', '--mixed-precision', 'bf16', '--output', 'half']);
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining("Use 'fp16'") });
  });
});
