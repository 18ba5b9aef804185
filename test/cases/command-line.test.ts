import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { listOption, option, readSettings } from '../../src/cli/options/command-options.ts';
import { meantName } from '../../src/cli/options/option-names.ts';
import { openSource } from '../../src/datasets/images/load-images.ts';
import { IMAGE_SET_NAMES } from '../../src/datasets/named-data-set.ts';
import { SYNTHETIC_SETS } from '../../src/datasets/points/synthetic.ts';
import { identify } from '../../src/evaluation/inputs.ts';
import { parseImageSet } from '../../src/experiments/jobs/image-sets.ts';
import { runHere } from '../cli/run-cli.ts';

const script = fileURLToPath(new URL('../../bin/iso-diffusion.js', import.meta.url));
const shortName = fileURLToPath(new URL('files/config-short-name.yaml', import.meta.url));
const here = process.cwd();
const folder = mkdtempSync(path.join(tmpdir(), 'iso-command-line-'));
beforeAll(() => process.chdir(folder));
afterAll(() => {
  process.chdir(here);
  rmSync(folder, { recursive: true, force: true });
});

describe('the keys of a config file', () => {
  const refused = async (text: string) => {
    writeFileSync('wrong.yaml', text);
    const { code, stderr } = await runHere(['train', '--config', 'wrong.yaml']);
    expect(code).toBe(2);
    return stderr;
  };

  it('are any long flag of the option, with underscores or hyphens', async () => {
    const table = { learning_rate: option('--lr, --learning-rate <rate>', z.number(), '') };
    for (const name of ['lr', 'learning_rate', 'learning-rate']) {
      writeFileSync('short.yaml', `${name}: 0.25\n`);
      expect(await readSettings(table, { config: 'short.yaml' })).toEqual({ learning_rate: 0.25 });
    }
    // The case: `lr` was answered with "did you mean 'n'?".
    const args = ['--config', shortName, '--max_steps', '1', '--n', '20', '--batch_size', '8', '--report_to', 'jsonl'];
    const { code, stdout } = await runHere([
      'train',
      ...args,
      '--device',
      'cpu',
      '--sample_every',
      '0',
      '--output_dir',
      'short',
    ]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringContaining('step 1:') });
  });

  it('may not name an option twice', async () => {
    expect(await refused('lr: 1\nlearning_rate: 1\n')).toMatch(/'lr' and 'learning_rate' are one option/);
  });

  it.each([
    ['n_epochs', 'num_train_epochs'],
    ['per_gpu_train_batch_size', 'per_device_train_batch_size'],
    ['ema_decay', 'ema_max_decay'],
    ['results_folder', 'output_dir'],
    ['save_every', 'save_steps'],
    ['num_warmup_steps', 'warmup_steps'],
    ['train_num_steps', 'max_steps'],
    ['diffusion_steps', 'num_train_timesteps'],
    ['image_size', 'resolution'],
    ['learn_sigma', 'learn_variance'],
    ['learning_rat', 'learning_rate'],
  ])('that other programs have get the option of the same meaning: %s', async (given, meant) => {
    expect(await refused(`${given}: 1\n`)).toContain(`unknown option '${given}'. Did you mean '${meant}'?`);
  });

  it('get no advice where nothing is near', async () => {
    expect(await refused('compile_mode: fast\n')).not.toContain('Did you mean');
    expect(meantName('lr', ['n', 'k', 'x'])).toBeUndefined();
  });
});

describe('flags', () => {
  it.each([
    [['train', '--n-epochs', '3'], "unknown option '--n-epochs'. Did you mean '--num-train-epochs'?"],
    [['train', '--learningrate', '3'], "unknown option '--learningrate'. Did you mean '--learning-rate'?"],
    [['generate', '--num_inference_steps', '3'], "unknown option '--num-inference-steps'. Did you mean '--steps'?"],
    [['trian'], "unknown command 'trian'. Did you mean 'train'?"],
    [['train', '--epochs'], "option '--epochs, --num-train-epochs <count>' argument missing"],
  ])('%j says what was meant, once', async (args, message) => {
    const { code, stdout, stderr } = await runHere(args);
    expect({ code, stdout, stderr }).toEqual({ code: 2, stdout: '', stderr: `error: ${message}\n` });
  });
});

describe('lists', () => {
  const table = {
    names: listOption('names', '--names <names...>', z.array(z.string()).min(1).optional(), ''),
    numbers: listOption('names', '--numbers <numbers...>', z.array(z.int()).optional(), ''),
    files: listOption('files', '--files <files...>', z.array(z.string()).optional(), ''),
  };
  const fromConfig = async (settings: object) => {
    writeFileSync('list.json', JSON.stringify(settings));
    return readSettings(table, { config: 'list.json' });
  };

  it('are separated by commas or blanks, as flags and in a config file', async () => {
    const wanted = { names: ['fid', 'kid'], numbers: [0, 12], files: ['a.npz', 'b c.npz'] };
    for (const flags of [
      { names: ['fid', 'kid'], numbers: ['0', '12'], files: ['a.npz', 'b c.npz'] },
      { names: ['fid,kid'], numbers: ['0,12'], files: ['a.npz,b c.npz'] },
      { names: ['fid,', 'kid'], numbers: ['0 12'], files: ['a.npz, b c.npz'] },
    ])
      expect(await readSettings(table, flags)).toEqual(wanted);
    expect(await fromConfig(wanted)).toEqual(wanted);
    expect(await fromConfig({ names: 'fid, kid', numbers: '0,12', files: 'a.npz, b c.npz' })).toEqual(wanted);
    expect(await fromConfig({ names: 'fid kid', numbers: 7 })).toEqual({ names: ['fid', 'kid'], numbers: [7] });
    await expect(readSettings(table, { names: [','] })).rejects.toThrow(/--names/);
    await expect(readSettings(table, { numbers: ['0,x'] })).rejects.toThrow(/--numbers/);
  });

  it('keep a file whose name has a comma', async () => {
    writeFileSync('1,5.npz', '');
    expect(await readSettings(table, { files: ['1,5.npz', 'a,b'] })).toMatchObject({ files: ['1,5.npz', 'a', 'b'] });
    expect(await fromConfig({ files: ['none,such.npz'] })).toMatchObject({ files: ['none,such.npz'] });
  });

  it.each([[['evaluate', '--metrics', 'prdc', 'isotropy']], [['evaluate', '--metrics', 'prdc,isotropy']]])(
    '%j are two metrics',
    async (args) => {
      const { stderr } = await runHere([...args, '--real', 'moons', '--fake', 'moons', '--n', '20']);
      expect(stderr).toMatch(/isotropy/);
      expect(stderr).not.toMatch(/prdc,isotropy|too many arguments/);
    },
  );
});

it('every command knows the same names of data sets', async () => {
  expect(IMAGE_SET_NAMES).toEqual(
    expect.arrayContaining(['digits', 'flowers102', 'pets', 'oxford-iiit-pet', 'mnist-10k', 'emoji']),
  );
  for (const name of IMAGE_SET_NAMES) {
    expect(await identify('real', name)).toEqual({ kind: 'images', source: name });
    expect(await parseImageSet(name)).toMatchObject({ source: name.replace(/^(flowers102|pets)$/, longName) });
  }
  for (const name of Object.keys(SYNTHETIC_SETS))
    expect(await identify('real', name)).toMatchObject({ kind: 'points' });
  const places = {
    cacheDir: folder,
    dataDir: folder,
    split: undefined,
    labelColumn: undefined,
    hub: {},
    warn: () => undefined,
  };
  for (const name of ['flowers102', 'pets']) await expect(openSource(name, places)).rejects.toThrow(/gz .*fetch https/);
});

const longName = (name: string) => (name === 'pets' ? 'oxford-iiit-pet' : 'oxford-flowers-102');

describe('an output that cannot be written', () => {
  const run = (command: string) => spawnSync('bash', ['-c', command], { encoding: 'utf8' });
  const cli = `${process.execPath} ${script}`;

  it.skipIf(!existsSync('/dev/full'))('is one line of error and a status of its own', () => {
    for (const args of ['train --help', 'reproduce table-1 --help']) {
      const { status, stderr } = run(`${cli} ${args} > /dev/full`);
      expect({ status, stderr }).toEqual({
        status: 1,
        stderr: 'error: the output cannot be written: ENOSPC: no space left on device, write\n',
      });
    }
    expect(run(`${cli} sing 2> /dev/full`).status).toBe(2);
  });

  it('because its reader has gone is silent', () => {
    const { stdout, stderr } = run(`${cli} train --help | true; echo \${PIPESTATUS[0]}`);
    expect({ stdout, stderr }).toEqual({ stdout: '0\n', stderr: '' });
  });
});
