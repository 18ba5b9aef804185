import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HubError, InvalidArgumentError } from '../../src/errors.ts';
import { downloadFile } from '../../src/hub/download.ts';
import type { DownloadProgress } from '../../src/hub/repository.ts';
import { MockHub } from './mock-hub.ts';

let hub: MockHub;
let cache: string;
const FILE = 'onnx/model.onnx';
const content = Buffer.from('weights '.repeat(500));

beforeEach(async () => {
  cache = await mkdtemp(path.join(tmpdir(), 'iso-hub-file-'));
  hub = new MockHub();
  await hub.start();
  hub.files.set(FILE, content);
  hub.files.set('onnx/other.onnx', Buffer.from('other'));
  hub.lfs.add(FILE);
});
afterEach(async () => {
  await hub.stop();
  await rm(cache, { recursive: true, force: true });
});
const download = (file = FILE, options = {}) =>
  downloadFile('owner/model', file, { cache_dir: cache, endpoint: hub.endpoint, ...options });

describe('downloadFile', () => {
  it('gets the one file, verified, with progress, and asks for it once', async () => {
    hub.faults.push('cut');
    const events: DownloadProgress[] = [];
    const target = await download(FILE, {
      progress_callback: (event: DownloadProgress) => events.push(event),
    });
    expect(await readFile(target)).toEqual(content);
    expect(events[0]).toEqual({ status: 'initiate', name: 'owner/model', file: FILE });
    expect(events.at(-2)).toMatchObject({ status: 'progress', progress: 100 });
    const before = hub.requests.length;
    expect(await download()).toBe(target);
    expect(hub.requests.slice(before)).toHaveLength(1);
    expect(hub.requests.some(({ path }) => path.includes('other.onnx'))).toBe(false);
  });

  it('is found without a network, once downloaded', async () => {
    const target = await download();
    expect(await download(FILE, { local_files_only: true })).toBe(target);
    await expect(download('onnx/other.onnx', { local_files_only: true })).rejects.toThrow(
      /onnx\/other\.onnx of owner\/model at main is not in the cache/,
    );
    await hub.stop();
    expect(await download()).toBe(target);
    await expect(download('onnx/other.onnx')).rejects.toThrow(HubError);
  });

  it('names a file that is not there, and one that arrives damaged', async () => {
    await expect(download('onnx/none.onnx')).rejects.toThrow(/owner\/model has no file onnx\/none\.onnx/);
    hub.faults.push('damage');
    await expect(download()).rejects.toThrow(/the content has the sha256/);
  });

  it.each(['../x.onnx', 'a/../../x', '/etc/x', 'a//b', 'a\\..\\b', ''])('refuses the path %o', async (file) => {
    await expect(download(file)).rejects.toThrow(InvalidArgumentError);
    expect(hub.requests).toEqual([]);
  });
});
