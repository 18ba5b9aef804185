import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { FileFormatError, HubError, InvalidArgumentError } from '../../src/errors.ts';
import { pushToHub } from '../../src/hub/push-to-hub.ts';
import { savePipeline } from '../pipelines/saved-pipeline.ts';

let root: string;
let server: Server;
let endpoint: string;
let committed: Map<string, Buffer>;
let created: unknown[];
let repositoryExists: boolean;
/** Whether weights go to Git LFS, as the Hub wants it of files of this kind. */
let weightsInLfs: boolean;
let stored: Map<string, Buffer>;

/** Takes uploads as the Hub does: create, preupload, LFS batch and storage, commit as NDJSON. */
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'iso-push-'));
  [committed, created, repositoryExists] = [new Map(), [], false];
  [stored, weightsInLfs] = [new Map(), false];
  server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const whole = Buffer.concat(chunks);
    const body = whole.toString();
    const json = (status: number, value: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(value));
    };
    if (request.method === 'PUT' && request.url?.startsWith('/storage/')) {
      stored.set(request.url.slice('/storage/'.length), whole);
      response.writeHead(200).end();
    } else if (request.headers.authorization !== 'Bearer hf_write') json(403, { error: 'no write access' });
    else if (request.url === '/api/repos/create') {
      created.push(JSON.parse(body));
      json(repositoryExists ? 409 : 200, { url: `${endpoint}/me/roll`, error: 'exists' });
    } else if (request.url === '/api/models/me/roll/preupload/main') {
      const { files } = JSON.parse(body) as { files: { path: string }[] };
      json(200, { files: files.map(({ path: file }) => ({ path: file, uploadMode: modeOf(file) })) });
    } else if (request.url === '/me/roll.git/info/lfs/objects/batch') {
      const { objects } = JSON.parse(body) as { objects: { oid: string; size: number }[] };
      const actions = (oid: string) => ({ upload: { href: `${endpoint}/storage/${oid}` } });
      json(200, {
        transfer: 'basic',
        objects: objects.map((object) => ({ ...object, actions: actions(object.oid) })),
      });
    } else if (request.url === '/api/models/me/roll/commit/main') {
      for (const line of body.split('\n')) {
        const { key, value } = JSON.parse(line);
        if (key === 'file') committed.set(value.path, Buffer.from(value.content, value.encoding));
        if (key === 'lfsFile') committed.set(value.path, stored.get(value.oid) ?? Buffer.alloc(0));
      }
      json(200, { commitOid: '0'.repeat(40), commitUrl: endpoint, success: true });
    } else json(404, { error: request.url });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await rm(root, { recursive: true, force: true });
});

const modeOf = (file: string) => (weightsInLfs && /\.(safetensors|onnx)$/.test(file) ? 'lfs' : 'regular');

it.each([false, true])('uploads every file in one commit, repository there before: %s', async (existing) => {
  repositoryExists = existing;
  const folder = await savePipeline(root);
  const url = await pushToHub(folder, 'me/roll', { token: 'hf_write', endpoint, private: true });
  expect(url).toBe(`${endpoint}/me/roll`);
  expect(created).toEqual([expect.objectContaining({ name: 'roll', organization: 'me' })]);
  const files = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((file) => file.isFile());
  expect(committed.size).toBe(files.length);
  for (const [name, content] of committed) expect(content).toEqual(await readFile(path.join(folder, name)));
});

it('uploads weights to Git LFS where the Hub asks for it, with the token of the environment', async () => {
  weightsInLfs = true;
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
  const folder = await savePipeline(root);
  await expect(pushToHub(folder, 'roll', { token: 'hf_write', endpoint })).rejects.toThrow(InvalidArgumentError);
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
