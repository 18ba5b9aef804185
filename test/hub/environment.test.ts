import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import * as transformers from '@huggingface/transformers';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { HubError, InvalidArgumentError } from '../../src/errors.ts';
import { downloadSnapshot } from '../../src/hub/download.ts';
import { pipelineFolderOf } from '../../src/hub/open-pretrained.ts';
import { pushToHub } from '../../src/hub/push-to-hub.ts';
import * as root from '../../src/index.ts';
import { MockHub } from './mock-hub.ts';

const fixture = new URL('../fixtures/unet/ddpm-style/', import.meta.url).pathname;
const CONFIG = await readFile(`${fixture}config.json`);
const WEIGHTS = await readFile(`${fixture}diffusion_pytorch_model.safetensors`);
const { env } = root;
const defaults = { ...env };

let hub: MockHub;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'iso-env-'));
  hub = new MockHub();
  await hub.start();
  hub.files.set('config.json', CONFIG);
  hub.files.set('diffusion_pytorch_model.safetensors', WEIGHTS);
  vi.stubEnv('HF_ENDPOINT', hub.endpoint);
  vi.stubEnv('XDG_CACHE_HOME', path.join(folder, 'xdg'));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  Object.assign(env, defaults);
  await hub.stop();
  await rm(folder, { recursive: true, force: true });
});

it('the entry gives on env, RawImage and Tensor of transformers.js', () => {
  expect(root.env).toBe(transformers.env);
  expect(root.RawImage).toBe(transformers.RawImage);
  expect(root.Tensor).toBe(transformers.Tensor);
  const image: root.RawImage = new root.RawImage(new Uint8ClampedArray(4), 2, 2, 1);
  const tensor: root.Tensor = new root.Tensor('float32', Float32Array.of(1), [1]);
  expect([image.width, tensor.dims]).toEqual([2, [1]]);
});

describe('without the Hub', () => {
  it.each([
    ['HF_HUB_OFFLINE', '1'],
    ['HF_HUB_OFFLINE', 'yes'],
    ['TRANSFORMERS_OFFLINE', 'TRUE'],
    ['TRANSFORMERS_OFFLINE', 'on'],
  ])('%s=%s uses the cache, and asks nobody', async (name, value) => {
    const cached = await downloadSnapshot('owner/model');
    const before = hub.requests.length;
    vi.stubEnv(name, value);
    expect(await downloadSnapshot('owner/model')).toBe(cached);
    const other = downloadSnapshot('owner/other', { local_files_only: false });
    await expect(other).rejects.toThrow(HubError);
    await expect(other).rejects.toThrow(`the Hub is not asked because ${name} is set`);
    await expect(pushToHub(cached, 'me/copy', { token: 'hf_write' })).rejects.toThrow(`${name} is set`);
    await expect(root.pipeline('fill-mask', 'owner/other')).rejects.toThrow(/local_files_only/i);
    expect(hub.requests.length).toBe(before);
  });

  it.each([
    ['HF_HUB_OFFLINE', '0'],
    ['HF_HUB_OFFLINE', ''],
    ['TRANSFORMERS_OFFLINE', 'false'],
  ])('%s=%s forbids nothing', async (name, value) => {
    vi.stubEnv(name, value);
    await downloadSnapshot('owner/model');
  });

  it('env.allowRemoteModels = false has the same effect', async () => {
    env.allowRemoteModels = false;
    await expect(downloadSnapshot('owner/model')).rejects.toThrow('because env.allowRemoteModels is false');
    expect(hub.requests).toEqual([]);
  });
});

describe('env', () => {
  it('remoteHost is the address of the Hub, before HF_ENDPOINT and behind an option', async () => {
    vi.stubEnv('HF_ENDPOINT', 'http://127.0.0.1:9');
    env.remoteHost = `${hub.endpoint}/`;
    await downloadSnapshot('owner/model');
    env.remoteHost = 'http://127.0.0.1:9/';
    await downloadSnapshot('owner/model', { endpoint: hub.endpoint });
  });

  it('cacheDir holds the downloads, unless an option names another folder', async () => {
    env.cacheDir = path.join(folder, 'mine');
    expect(await downloadSnapshot('owner/model')).toContain(path.join(folder, 'mine'));
    const option = await downloadSnapshot('owner/model', { cache_dir: path.join(folder, 'option') });
    expect(option).toContain(path.join(folder, 'option'));
    env.cacheDir = defaults.cacheDir;
    expect(await downloadSnapshot('owner/model')).toContain(path.join(folder, 'xdg'));
  });

  it('localModelPath has models by their names', async () => {
    env.localModelPath = path.join(folder, 'models');
    const local = path.join(folder, 'models/owner/model');
    await cp(`${fixture}config.json`, path.join(local, 'config.json'));
    expect(await pipelineFolderOf('owner/model')).toBe(local);
    expect(hub.requests).toEqual([]);
    env.allowLocalModels = false;
    expect(await pipelineFolderOf('owner/model')).toContain('snapshots');
  });

  it('allowLocalModels = false refuses folders and files by name', async () => {
    env.allowLocalModels = false;
    for (const name of ['./somewhere', fixture]) {
      await expect(pipelineFolderOf(name)).rejects.toThrow(InvalidArgumentError);
      await expect(pipelineFolderOf(name)).rejects.toThrow('env.allowLocalModels is false');
    }
    const opened = root.pipeline('unconditional-image-generation', './model.onnx', { device: 'cpu' });
    await expect(opened).rejects.toThrow('env.allowLocalModels is false');
  });
});

describe('a token', () => {
  it.each(['mirror-abc', 'hf_secret', 'glpat-A.b_c=', 'Zm9v/YmFy+=='])('%s is sent to the endpoint', async (token) => {
    hub.token = token;
    vi.stubEnv('HF_TOKEN', `${token}\n`);
    await downloadSnapshot('owner/model');
    expect(hub.requests.every(({ authorization }) => authorization === `Bearer ${token}`)).toBe(true);
    await downloadSnapshot('owner/model', { token, cache_dir: path.join(folder, 'again') });
  });

  it('that is refused is spoken of', async () => {
    hub.token = 'right';
    await expect(downloadSnapshot('owner/model', { token: 'wrong' })).rejects.toThrow(
      /status 401.*the token, in HF_TOKEN or the option token, is one of http/,
    );
  });

  it.each(['two words', 'tökën', 'a\r\nx-evil: 1'])('%j is refused before it is sent', async (token) => {
    await expect(downloadSnapshot('owner/model', { token })).rejects.toThrow(InvalidArgumentError);
    await expect(downloadSnapshot('owner/model', { token })).rejects.toThrow(/token in the option token/);
    vi.stubEnv('HF_TOKEN', token);
    await expect(downloadSnapshot('owner/model')).rejects.toThrow(/token in HF_TOKEN/);
    expect(hub.requests).toEqual([]);
  });

  it('of another form than those of huggingface.co is spoken of where it goes there', async () => {
    vi.stubEnv('HF_ENDPOINT', '');
    vi.stubEnv('HF_TOKEN', 'mirror-abc');
    const unreachable = async () => {
      throw new TypeError('fetch failed');
    };
    const download = downloadSnapshot('someone/x', { fetch: unreachable });
    await expect(download).rejects.toThrow(/HF_TOKEN does not begin with 'hf_'.*set HF_ENDPOINT/);
  });
});
