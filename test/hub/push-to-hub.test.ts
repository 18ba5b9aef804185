import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { FileFormatError, HubError, InvalidArgumentError } from '../../src/errors.ts';
import { pushToHub } from '../../src/hub/push-to-hub.ts';
import { savePipeline } from '../pipelines/saved-pipeline.ts';
import { MockHub } from './mock-hub.ts';

let root: string;
let hub: MockHub;
let endpoint: string;
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'iso-push-'));
  hub = new MockHub();
  await hub.start();
  endpoint = hub.endpoint;
});
afterEach(async () => {
  await hub.stop();
  await rm(root, { recursive: true, force: true });
});

it.each([false, true])('uploads every file in one commit, repository there before: %s', async (existing) => {
  const { committed, created } = hub.uploads;
  hub.uploads.repositoryExists = existing;
  const folder = await savePipeline(root);
  const files = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((file) => file.isFile());
  // What is hidden stays here.
  await mkdir(path.join(folder, '.git'));
  await writeFile(path.join(folder, '.git/config'), 'url = https://me:secret@example.org/roll');
  await writeFile(path.join(folder, '.env'), 'HF_TOKEN=hf_secret');
  const url = await pushToHub(folder, 'me/roll', { token: 'hf_write', endpoint, private: true });
  expect(url).toBe(`${endpoint}/me/roll`);
  expect(created).toEqual([expect.objectContaining({ name: 'roll', organization: 'me' })]);
  expect(committed.size).toBe(files.length);
  for (const [name, content] of committed) expect(content).toEqual(await readFile(path.join(folder, name)));
});

it('uploads weights to Git LFS where the Hub asks for it, with the token of the environment', async () => {
  hub.uploads.weightsInLfs = true;
  const { committed, stored } = hub.uploads;
  const folder = await savePipeline(root);
  vi.stubEnv('HF_TOKEN', 'hf_write');
  try {
    await pushToHub(folder, 'me/roll', { endpoint });
  } finally {
    vi.unstubAllEnvs();
  }
  expect(stored.size).toBe(2);
  for (const file of ['model.onnx', 'diffusion_pytorch_model.safetensors']) {
    const content = await readFile(path.join(folder, 'unet', file));
    expect(committed.get(`unet/${file}`)?.equals(content)).toBe(true);
    expect(stored.has(createHash('sha256').update(content).digest('hex'))).toBe(true);
  }
});

it('uploads a variant, but no folder without weights', async () => {
  const { committed } = hub.uploads;
  const folder = await savePipeline(root);
  const weights = path.join(folder, 'unet/diffusion_pytorch_model.safetensors');
  await rename(weights, weights.replace('.safetensors', '.fp16.safetensors'));
  await pushToHub(folder, 'me/roll', { token: 'hf_write', endpoint });
  expect([...committed.keys()]).toContain('unet/diffusion_pytorch_model.fp16.safetensors');
  committed.clear();
  await rm(weights.replace('.safetensors', '.fp16.safetensors'));
  await expect(pushToHub(folder, 'me/roll', { token: 'hf_write', endpoint })).rejects.toThrow(FileFormatError);
  expect(committed.size).toBe(0);
});

it('says what is wrong before or when the Hub refuses', async () => {
  const { committed } = hub.uploads;
  const folder = await savePipeline(root);
  await expect(pushToHub(folder, 'roll', { token: 'hf_write', endpoint })).rejects.toThrow(InvalidArgumentError);
  await expect(pushToHub(folder, 'me/..', { token: 'hf_write', endpoint })).rejects.toThrow(InvalidArgumentError);
  await expect(pushToHub(folder, 'me/roll', { token: 'hf_read', endpoint })).rejects.toThrow(/no write access/);
  await writeFile(path.join(root, 'thesis.tex'), 'private');
  await expect(pushToHub(root, 'me/roll', { token: 'hf_write', endpoint })).rejects.toThrow(FileFormatError);
  const { HF_TOKEN, HUGGING_FACE_HUB_TOKEN } = process.env;
  delete process.env.HF_TOKEN;
  delete process.env.HUGGING_FACE_HUB_TOKEN;
  await expect(pushToHub(folder, 'me/roll', { endpoint })).rejects.toThrow(HubError);
  if (HF_TOKEN) process.env.HF_TOKEN = HF_TOKEN;
  if (HUGGING_FACE_HUB_TOKEN) process.env.HUGGING_FACE_HUB_TOKEN = HUGGING_FACE_HUB_TOKEN;
  expect(committed.size).toBe(0);
});
