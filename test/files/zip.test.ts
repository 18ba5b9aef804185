import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zipSync } from 'fflate';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FileFormatError } from '../../src/errors.ts';
import { unzipInto, zipFolder } from '../../src/files/zip.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-zip-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('zipFolder and unzipInto', () => {
  it('bring a folder there and back, without its hidden files', async () => {
    mkdirSync(join(folder, 'in/unet'), { recursive: true });
    writeFileSync(join(folder, 'in/model_index.json'), '{}\n');
    writeFileSync(join(folder, 'in/unet/model.onnx'), new Uint8Array(1000).fill(7));
    writeFileSync(join(folder, 'in/.lock'), '');
    const zip = await zipFolder(join(folder, 'in'));
    expect(zip).toEqual(await zipFolder(join(folder, 'in')));
    await unzipInto(join(folder, 'out'), zip);
    expect(readFileSync(join(folder, 'out/model_index.json'), 'utf8')).toBe('{}\n');
    expect(readFileSync(join(folder, 'out/unet/model.onnx'))).toEqual(Buffer.alloc(1000, 7));
    await expect(unzipInto(join(folder, 'none'), zip.subarray(0, 100))).rejects.toThrow(FileFormatError);
    expect(() => readFileSync(join(folder, 'out/.lock'))).toThrow('ENOENT');
  });

  it.each(['../out', 'a/../../out', '/etc/out', 'a\\..\\out', 'C:/out'])('refuse the path %s', async (path) => {
    const zip = zipSync({ [path]: Uint8Array.of(1) });
    await expect(unzipInto(join(folder, 'in'), zip)).rejects.toThrow(/has the path .*which may leave its folder/);
  });

  it('refuse a file that unpacks to more than fits', async () => {
    const zip = zipSync({ bomb: new Uint8Array(1000) });
    // The size of the unpacked file in the central directory, which begins with PK 1 2.
    const directory = zip.findIndex((_, i) => zip[i] === 0x50 && zip[i + 1] === 0x4b && zip[i + 2] === 1);
    new DataView(zip.buffer).setUint32(directory + 24, 2 ** 32 - 2, true);
    await expect(unzipInto(folder, zip)).rejects.toThrow(/more than the 10000 files or 2147483648 bytes/);
  });

  it('refuse what is no zip file', async () => {
    await expect(unzipInto(folder, new TextEncoder().encode('hello'))).rejects.toThrow(/not a zip file/);
  });
});
