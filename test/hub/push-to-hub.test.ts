import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { FileFormatError, HubError, InvalidArgumentError } from '../../src/errors.ts';
import { pushToHub } from '../../src/hub/push-to-hub.ts';
import { savePipeline } from '../pipelines/saved-pipeline.ts';

let root: string;
let server: Server;
let endpoint: string;
let committed: Map<string, Buffer>;
let created: unknown[];
let repositoryExists: boolean;

/** Takes uploads as the Hub does: create, preupload (all files small), commit as NDJSON. */
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'iso-push-'));
  [committed, created, repositoryExists] = [new Map(), [], false];
  server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString();
    const json = (status: number, value: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(value));
    };
    if (request.headers.authorization !== 'Bearer hf_write') json(403, { error: 'no write access' });
    else if (request.url === '/api/repos/create') {
      created.push(JSON.parse(body));
      json(repositoryExists ? 409 : 200, { url: `${endpoint}/me/roll`, error: 'exists' });
    } else if (request.url === '/api/models/me/roll/preupload/main') {
      const { files } = JSON.parse(body) as { files: { path: string }[] };
      json(200, { files: files.map((file) => ({ path: file.path, uploadMode: 'regular' })) });
    } else if (request.url === '/api/models/me/roll/commit/main') {
      for (const line of body.split('\n')) {
        const { key, value } = JSON.parse(line);
        if (key === 'file') committed.set(value.path, Buffer.from(value.content, value.encoding));
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

it.each([false, true])('uploads every file in one commit, repository there before: %s', async (existing) => {
  repositoryExists = existing;
  const folder = await savePipeline(root);
  const url = await pushToHub(folder, 'me/roll', { token: 'hf_write', endpoint, private: true });
  expect(url).toBe(`${endpoint}/me/roll`);
  expect(created).toEqual([expect.objectContaining({ name: 'roll', organization: 'me' })]);
  const files = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((file) =>
    file.isFile(),
  );
  expect(committed.size).toBe(files.length);
  for (const [name, content] of committed) expect(content).toEqual(await readFile(path.join(folder, name)));
});

it('says what is wrong before or when the Hub refuses', async () => {
  const folder = await savePipeline(root);
  await expect(pushToHub(folder, 'roll', { token: 'hf_write', endpoint })).rejects.toThrow(
    InvalidArgumentError,
  );
  await expect(pushToHub(folder, 'me/roll', { token: 'hf_read', endpoint })).rejects.toThrow(
    /no write access/,
  );
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
