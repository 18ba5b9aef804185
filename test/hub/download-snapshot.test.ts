import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { HubError, InvalidArgumentError } from '../../src/errors.ts';
import { floatTensorInfos } from '../../src/files/float-tensors.ts';
import { readSafetensors, safetensorsChunks } from '../../src/files/safetensors.ts';
import { downloadSnapshot } from '../../src/hub/download.ts';
import { readPipelineFolder } from '../../src/hub/open-pretrained.ts';
import type { DownloadProgress } from '../../src/hub/repository.ts';
import { UNet2DModel } from '../../src/models/index.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import { DDPMScheduler } from '../../src/schedulers/index.ts';
import { type Fault, MockHub } from './mock-hub.ts';

const fixture = new URL('../fixtures/unet/ddpm-style/', import.meta.url).pathname;
const WEIGHTS = 'unet/diffusion_pytorch_model.safetensors';
let hub: MockHub;
let cache: string;

beforeEach(async () => {
  cache = await mkdtemp(path.join(tmpdir(), 'iso-hub-'));
  hub = new MockHub();
  await hub.start();
  hub.files.set(
    'model_index.json',
    Buffer.from(
      JSON.stringify({
        _class_name: 'DDPMPipeline',
        scheduler: ['diffusers', 'DDPMScheduler'],
        unet: ['diffusers', 'UNet2DModel'],
      }),
    ),
  );
  hub.files.set('scheduler/scheduler_config.json', Buffer.from('{"_class_name": "DDPMScheduler"}'));
  hub.files.set('unet/config.json', await readFile(`${fixture}config.json`));
  hub.files.set(WEIGHTS, await readFile(`${fixture}diffusion_pytorch_model.safetensors`));
  hub.files.set('samples/image.png', Buffer.from('not needed'));
  hub.lfs.add(WEIGHTS);
});
afterEach(async () => {
  await hub.stop();
  await rm(cache, { recursive: true, force: true });
});
const download = (options = {}) =>
  downloadSnapshot('owner/model', { cache_dir: cache, endpoint: hub.endpoint, ...options });
/** Compares buffers as a whole: `toEqual` looks at every byte, which takes seconds. */
async function expectWeights(folder: string): Promise<void> {
  const content = await readFile(path.join(folder, WEIGHTS));
  expect(content.equals(hub.files.get(WEIGHTS) ?? Buffer.alloc(0))).toBe(true);
}

describe('downloadSnapshot', () => {
  it('gets what a pipeline needs, reports progress, and asks only once', async () => {
    const events: DownloadProgress[] = [];
    const folder = await download({ progress_callback: (event: DownloadProgress) => events.push(event) });
    await expectWeights(folder);
    expect(await readdir(folder)).not.toContain('samples');
    const ofWeights = events.filter(({ file }) => file === WEIGHTS);
    expect(ofWeights[0]).toEqual({ status: 'initiate', name: 'owner/model', file: WEIGHTS });
    expect(ofWeights.at(-2)).toMatchObject({ status: 'progress', progress: 100 });
    expect(ofWeights.at(-1)?.status).toBe('done');
    const before = hub.requests.length;
    expect(await download()).toBe(folder);
    expect(hub.requests.slice(before).map((request) => request.path)).toEqual([
      '/api/models/owner/model/revision/main',
    ]);
  });

  it('gets what is known of the isotropy, for iso_lambda', async () => {
    const known = Buffer.from('{"isotropy": 0.97, "standard_error": 0.01, "samples": 100, "lambda": 0}');
    hub.files.set('unet/isotropy.json', known);
    hub.files.set('unet_ema/isotropy.json', known);
    const folder = await download();
    for (const model of ['unet', 'unet_ema'])
      expect(await readFile(path.join(folder, model, 'isotropy.json'))).toEqual(known);
  });

  it('gets what decodes the latents of latent diffusion', async () => {
    const vae = new URL('../fixtures/vae/vq-small/', import.meta.url).pathname;
    for (const name of ['config.json', 'diffusion_pytorch_model.safetensors'])
      hub.files.set(`vqvae/${name}`, await readFile(vae + name));
    hub.files.set('vqvae/notes.txt', Buffer.from('not needed'));
    const index = JSON.parse(String(hub.files.get('model_index.json')));
    const named = { ...index, _class_name: 'LDMPipeline', vqvae: ['diffusers', 'VQModel'] };
    hub.files.set('model_index.json', Buffer.from(JSON.stringify(named)));
    const folder = await download();
    expect((await readdir(path.join(folder, 'vqvae'))).sort()).toEqual([
      'config.json',
      'diffusion_pytorch_model.safetensors',
    ]);
    expect((await readPipelineFolder(folder, { require: ['weights'] })).autoencoder).toBe(path.join(folder, 'vqvae'));
  });

  it('makes a pipeline of a Hub id', async () => {
    process.env.HF_ENDPOINT = hub.endpoint;
    try {
      const generate = await pipeline('unconditional-image-generation', 'owner/model', {
        cache_dir: cache,
        device: 'cpu',
      });
      const images = await generate({ batch_size: 2, num_inference_steps: 2, output_type: 'uint8' });
      expect([images.count, images.height, images.channels]).toEqual([2, 8, 3]);
      await generate.dispose();
    } finally {
      delete process.env.HF_ENDPOINT;
    }
  });

  it.each<[string, Fault[]]>([
    ['a connection that is cut twice', ['cut', 'cut']],
    ['a body that ends early with a plausible length', ['truncate']],
    ['a server error', ['status-500']],
    ['a server that ignores the range', ['cut', 'ignore-range']],
    ['a server that answers another range', ['cut', 'wrong-range']],
    ['a file that changes on the server while it comes', ['cut-stale']],
  ])('survives %s', async (_name, faults) => {
    for (const file of [...hub.files.keys()])
      if (file !== WEIGHTS && file !== 'unet/config.json') hub.files.delete(file);
    hub.files.delete('unet/config.json');
    hub.faults.push(...faults);
    await expectWeights(await download());
    if (faults[0]?.startsWith('cut')) {
      const resumed = hub.requests.filter(({ range }) => range !== undefined);
      expect(resumed.length).toBeGreaterThan(0);
      for (const { ifRange } of resumed) expect(ifRange).toMatch(/^"(fresh|stale)"$/);
    }
    const left = (await readdir(cache, { recursive: true })).filter((file) => /incomplete|etag/.test(file));
    expect(left).toEqual([]);
  });

  it('gives the token to the Hub, and not to the server it redirects to when that is another one', async () => {
    const storage = new MockHub();
    await storage.start();
    for (const [name, content] of hub.files) storage.files.set(name, content);
    hub.token = 'hf_secret';
    hub.storage = storage.endpoint.replace('127.0.0.1', 'localhost');
    try {
      await expectWeights(await download({ token: 'hf_secret' }));
      expect(hub.requests.every(({ authorization }) => authorization === 'Bearer hf_secret')).toBe(true);
      expect(storage.requests.length).toBeGreaterThan(3);
      expect(storage.requests.every(({ authorization }) => authorization === undefined)).toBe(true);
    } finally {
      await storage.stop();
    }
  });

  it('gets all shards and their index, or one variant, and keeps both apart', async () => {
    const shard = (i: number) => `unet/diffusion_pytorch_model-0000${i}-of-00002.safetensors`;
    const half = 'unet/diffusion_pytorch_model.fp16.safetensors';
    const tensors = [...(await readSafetensors(`${fixture}diffusion_pytorch_model.safetensors`))];
    const weight_map: Record<string, string> = {};
    for (const [i, part] of [tensors.slice(0, 30), tensors.slice(30)].entries()) {
      hub.files.set(shard(i + 1), Buffer.concat([...safetensorsChunks(new Map(part))]));
      for (const [name] of part) weight_map[name] = path.basename(shard(i + 1));
    }
    hub.files.set(`${WEIGHTS}.index.json`, Buffer.from(JSON.stringify({ weight_map })));
    hub.files.set(half, hub.files.get(WEIGHTS) as Buffer);
    hub.files.set('unet/diffusion_pytorch_model.bin', Buffer.from('pickle'));
    hub.files.delete(WEIGHTS);
    const folder = await download();
    expect((await readdir(path.join(folder, 'unet'))).sort()).toEqual(
      ['config.json', ...[shard(1), shard(2), `${WEIGHTS}.index.json`].map((file) => path.basename(file))].sort(),
    );
    const { paths } = await readPipelineFolder(folder, { require: ['weights'] });
    expect((await floatTensorInfos(paths.weights)).size).toBe(tensors.length);

    await expect(download({ variant: 'fp16', local_files_only: true })).rejects.toThrow(/\(fp16\) is not in/);
    expect(await download({ variant: 'fp16' })).toBe(folder);
    expect(await readdir(path.join(folder, 'unet'))).toContain(path.basename(half));
    expect(await download({ variant: 'fp16', local_files_only: true })).toBe(folder);
    await expect(download({ variant: 'bf16' })).rejects.toThrow(/no .*bf16.*there are the variants fp16/);
    await expect(download({ variant: '../x' })).rejects.toThrow(InvalidArgumentError);
  });

  it('opens a flat repository, as google/ddpm-* are', async () => {
    for (const name of ['unet/config.json', WEIGHTS, 'scheduler/scheduler_config.json']) {
      hub.files.set(path.basename(name), hub.files.get(name) as Buffer);
      hub.files.delete(name);
    }
    hub.lfs.add(path.basename(WEIGHTS));
    process.env.HF_ENDPOINT = hub.endpoint;
    try {
      const model = await UNet2DModel.from_pretrained('owner/model', { cache_dir: cache });
      expect(model.parameters.length).toBeGreaterThan(50);
      const scheduler = await DDPMScheduler.from_pretrained('owner/model', {
        cache_dir: cache,
        local_files_only: true,
      });
      expect(scheduler.config.num_train_timesteps).toBe(1000);
    } finally {
      delete process.env.HF_ENDPOINT;
    }
  });

  it('asks nobody for a commit that is there', async () => {
    const folder = await download({ revision: hub.commit });
    const before = hub.requests.length;
    expect(await download({ revision: hub.commit })).toBe(folder);
    expect(hub.requests.length).toBe(before);
  });

  it('takes up a download of an earlier call where it broke', async () => {
    hub.files.delete('unet/config.json');
    const controller = new AbortController();
    const stopped = download({
      signal: controller.signal,
      progress_callback: ({ file, loaded = 0 }: DownloadProgress) =>
        file === WEIGHTS && loaded > 0 && controller.abort(),
    });
    await expect(stopped).rejects.toMatchObject({ name: 'AbortError' });
    hub.requests.length = 0;
    await expectWeights(await download());
    expect(hub.requests.find(({ path: asked }) => asked.startsWith('/cdn/'))?.range).toMatch(/^bytes=[1-9]/);
  });

  it.each<[Fault, RegExp]>([
    ['damage', /sha256/],
    ['too-long', /more than/],
  ])('refuses content that was changed: %s', async (fault, message) => {
    for (const file of [...hub.files.keys()]) if (file !== WEIGHTS) hub.files.delete(file);
    hub.faults.push(fault);
    await expect(download()).rejects.toThrow(message);
    const left = await readdir(cache, { recursive: true });
    expect(left.some((file) => file.endsWith('.safetensors'))).toBe(false);
    await expectWeights(await download());
  });

  it('gives up after five cuts with an error that says so', async () => {
    hub.faults.push('status-500', 'status-500', 'status-500', 'status-500', 'status-500');
    await expect(download()).rejects.toThrow(/broke 5 times/);
  });

  it('sends the token of the environment, and says what 401 and 404 mean', async () => {
    hub.token = 'hf_secret';
    await expect(download()).rejects.toThrow(/status 401.*HF_TOKEN/);
    vi.stubEnv('HF_TOKEN', 'hf_secret');
    await download().finally(() => vi.unstubAllEnvs());
    expect(hub.requests.at(-2)?.authorization ?? hub.requests.at(-1)?.authorization).toBe('Bearer hf_secret');
    await expect(download({ token: 'secret' })).rejects.toThrow(/status 401.*whether the token.* is one of http/);
    await expect(download({ token: 'of two words' })).rejects.toThrow(InvalidArgumentError);
    const other = downloadSnapshot('owner/nothing', {
      cache_dir: cache,
      endpoint: hub.endpoint,
      token: 'hf_secret',
    });
    await expect(other).rejects.toThrow(/status 404.*check the name/);
  });

  it('refuses pickles with advice', async () => {
    hub.files.delete(WEIGHTS);
    hub.files.set('unet/diffusion_pytorch_model.bin', Buffer.from('pickle'));
    await expect(download()).rejects.toThrow(/is a pickle.*from_pretrained\('owner\/model'\).*safe_serialization=True/);
  });

  it('works from the cache without a network, and only if there is one', async () => {
    await expect(download({ local_files_only: true })).rejects.toThrow(/not in the cache/);
    const folder = await download();
    await hub.stop();
    expect(await download({ local_files_only: true })).toBe(folder);
    expect(await download()).toBe(folder);
    expect(await download({ revision: hub.commit, local_files_only: true })).toBe(folder);
    await expect(downloadSnapshot('owner/other', { cache_dir: cache, endpoint: hub.endpoint })).rejects.toThrow(
      HubError,
    );
  });

  it.each(['model', 'a/b/c', '../x/y', 'owner/..'])("refuses the id '%s'", async (id) => {
    await expect(downloadSnapshot(id, { cache_dir: cache })).rejects.toThrow(InvalidArgumentError);
  });
});

it('reads a flat folder, with and without a scheduler', async () => {
  await cp(`${fixture}config.json`, path.join(cache, 'config.json'));
  await cp(`${fixture}diffusion_pytorch_model.safetensors`, path.join(cache, 'diffusion_pytorch_model.safetensors'));
  const plain = await readPipelineFolder(cache, { require: ['weights'] });
  expect(plain.unetConfig._class_name).toBe('UNet2DModel');
  expect(plain.schedulerConfig).toEqual({ _class_name: 'DDPMScheduler' });
  await writeFile(path.join(cache, 'scheduler_config.json'), '{"_class_name": "DDIMScheduler"}');
  expect((await readPipelineFolder(cache, { require: ['weights'] })).schedulerConfig._class_name).toBe('DDIMScheduler');
  const generate = await pipeline('unconditional-image-generation', cache, { device: 'cpu' });
  expect(generate.model.sampleShape).toEqual([3, 8, 8]);
  await generate.dispose();
});
