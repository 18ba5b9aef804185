import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { DatasetError } from '../../src/errors.ts';
import { download } from '../../src/files/download.ts';

// What the Hub and the archives of data sets have in common is tested in test/hub and test/datasets.
const content = Buffer.from('0123456789'.repeat(10));
const digest = { kind: 'md5', hex: createHash('md5').update(content).digest('hex') } as const;
let folder: string;
let server: Server;
let url: string;
let stalls: number;
let ranges: (string | undefined)[];

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'iso-download-'));
  ranges = [];
  server = createServer((request, response) => {
    const { range } = request.headers;
    ranges.push(range);
    const begin = Number(/bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0);
    response.writeHead(range ? 206 : 200, { etag: '"a"', 'content-range': `bytes ${begin}-99/100` });
    if (stalls-- > 0) response.write(content.subarray(begin, begin + 10));
    else response.end(content.subarray(begin));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/x`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await rm(folder, { recursive: true, force: true });
});
const fail = (message: string, options?: ErrorOptions) => new DatasetError(message, options);

it('continues after a server that stops sending, without knowing the size', async () => {
  stalls = 2;
  const target = path.join(folder, 'deep/file');
  await download({ url, digest }, target, { fail, stallMs: 1000 });
  expect(await readFile(target)).toEqual(content);
  expect(ranges).toEqual([undefined, 'bytes=10-', 'bytes=20-']);
  expect(await readdir(path.dirname(target))).toEqual(['file']);
});

it('gives up a server that never sends enough, and keeps what came for the next call', async () => {
  stalls = 5;
  const target = path.join(folder, 'file');
  const failing = download({ url, digest, size: 100 }, target, { fail, stallMs: 500 });
  await expect(failing).rejects.toThrow(/broke 5 times \(nothing came for 0.5 s\)/);
  await expect(failing).rejects.toThrow(DatasetError);
  await download({ url, digest, size: 100 }, target, { fail });
  expect(ranges.at(-1)).toBe('bytes=50-');
  expect(await readFile(target)).toEqual(content);
});

it('stops with the reason of the signal', async () => {
  stalls = 1;
  const reason = new Error('enough');
  const stopped = download({ url, digest }, path.join(folder, 'file'), {
    fail,
    signal: AbortSignal.abort(reason),
  });
  await expect(stopped).rejects.toBe(reason);
  expect(ranges).toEqual([]);
});
