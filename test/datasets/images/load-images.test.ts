import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { parquetWriteBuffer } from 'hyparquet-writer';
import sharp from 'sharp';
import { pack } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadImages } from '../../../src/datasets/index.ts';
import { DatasetError, InvalidArgumentError } from '../../../src/errors.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'iso-images-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const load = (source: string, options = {}) =>
  loadImages(source, { cache_dir: path.join(folder, 'cache'), on_warning: () => undefined, ...options });

/** An image of one colour, with a dark left half. */
function image([r, g, b]: readonly [number, number, number], width = 8, height = 8) {
  const pixels = Uint8Array.from({ length: width * height * 3 }, (_, i) =>
    Math.floor(i / 3) % width < width / 2 ? 0 : ([r, g, b][i % 3] as number),
  );
  return sharp(pixels, { raw: { width, height, channels: 3 } });
}
const png = (colour: readonly [number, number, number]) => image(colour).png().toBuffer();
/** The pixel in row 4, column 6 of an image of 8x8. */
const brightPixel = (pixels: Uint8Array, channels = 3) => [
  ...pixels.subarray((4 * 8 + 6) * channels, (4 * 8 + 7) * channels),
];

describe('a folder', () => {
  it('of many JPEG files is the same one at a time and several at once, damaged and other files among them', async () => {
    await mkdir(path.join(folder, 'set'));
    const files = Array.from({ length: 260 }, async (_, i) => {
      const colour = [(i * 37) % 256, (i * 91) % 256, (i * 17) % 256] as const;
      // Each with Huffman codes of its own.
      const jpeg = image(colour, 30 + (i % 7), 20 + (i % 11)).jpeg({ optimiseCoding: true, progressive: i % 40 === 7 });
      const bytes = i % 50 === 8 ? await png(colour) : await jpeg.toBuffer();
      const whole = i % 90 !== 60;
      await writeFile(path.join(folder, `set/${1000 + i}.jpg`), whole ? bytes : bytes.subarray(0, 200));
    });
    await Promise.all(files);
    const loaded = async (num_workers: number) =>
      load(path.join(folder, 'set'), { resolution: 16, num_workers, cache_dir: path.join(folder, `${num_workers}`) });
    const [alone, together] = [await loaded(1), await loaded(4)];
    expect(alone.count).toBe(257);
    expect(together.skipped).toEqual(alone.skipped);
    expect(together.fingerprint).toBe(alone.fingerprint);
  });

  it('is read in the order of its paths, sub-folders as classes, bad images listed', async () => {
    await mkdir(path.join(folder, 'set/roses'), { recursive: true });
    await mkdir(path.join(folder, 'set/tulips'));
    await writeFile(path.join(folder, 'set/roses/a.png'), await png([200, 10, 10]));
    await writeFile(path.join(folder, 'set/tulips/b.png'), await png([10, 200, 10]));
    await writeFile(path.join(folder, 'set/tulips/c.jpg'), 'this is no image');
    const truncated = (await png([1, 2, 3])).subarray(0, 60);
    await writeFile(path.join(folder, 'set/tulips/d.png'), truncated);
    await writeFile(path.join(folder, 'set/notes.txt'), 'no image either');
    const warnings: string[] = [];
    const on_warning = (message: string) => void warnings.push(message);
    const set = await load(path.join(folder, 'set'), { resolution: 8, on_warning });
    expect([set.count, set.height, set.width, set.channels]).toEqual([2, 8, 8, 3]);
    expect(set.labels).toEqual(Int32Array.of(0, 1));
    expect(brightPixel(set.pixels(0))).toEqual([200, 10, 10]);
    expect(brightPixel(set.pixels(1))).toEqual([10, 200, 10]);
    expect(set.skipped.map(({ source }) => path.basename(source))).toEqual(['c.jpg', 'd.png', 'notes.txt']);
    expect(warnings).toEqual([expect.stringMatching(/set: 3 entries left out: .*c\.jpg \(not a PNG/)]);
    const strict = load(path.join(folder, 'set'), { resolution: 8, strict: true });
    await expect(strict).rejects.toThrow(/set: 3 entries cannot be used, which 'strict' refuses: tulips\/c.jpg/);
    expect(() => set.pixels(2)).toThrow(InvalidArgumentError);
  });

  it('turns images as EXIF says', async () => {
    await mkdir(path.join(folder, 'set'));
    // Orientation 6: to be turned by 90 degrees clockwise, so that the dark left half comes to the top.
    const turned = await image([250, 250, 250]).withMetadata({ orientation: 6 }).png().toBuffer();
    await writeFile(path.join(folder, 'set/turned.png'), turned);
    const set = await load(path.join(folder, 'set'), { resolution: 8, channels: 1 });
    const rows = Array.from({ length: 8 }, (_, y) => set.pixels(0)[y * 8 + 1]);
    expect(rows).toEqual([0, 0, 0, 0, 250, 250, 250, 250]);
  });

  it('refuses a decompression bomb without decoding it', async () => {
    await mkdir(path.join(folder, 'set'));
    const bomb = Buffer.from(await png([1, 1, 1]));
    bomb.writeUInt32BE(60_000, 16);
    bomb.writeUInt32BE(60_000, 20);
    await writeFile(path.join(folder, 'set/bomb.png'), bomb);
    await writeFile(path.join(folder, 'set/good.png'), await png([9, 9, 9]));
    const set = await load(path.join(folder, 'set'), { resolution: 8 });
    expect(set.count).toBe(1);
    expect(set.skipped).toEqual([
      { source: 'bomb.png', reason: '60000x60000 pixels are more than the 100000000 that are decoded' },
    ]);
  });

  it('is decoded once: the cache gives the same set, also when it is read from the disk', async () => {
    await mkdir(path.join(folder, 'set'));
    for (let i = 0; i < 5; i++) await writeFile(path.join(folder, `set/${i}.png`), await png([i * 40, 0, 255]));
    let decoded = 0;
    const on_progress = () => {
      decoded += 1;
    };
    const first = await load(path.join(folder, 'set'), { resolution: 8, on_progress });
    expect(decoded).toBe(5);
    const again = await load(path.join(folder, 'set'), { resolution: 8, on_progress });
    expect(decoded).toBe(5);
    const fromDisk = await load(path.join(folder, 'set'), { resolution: 8, max_memory_bytes: 0 });
    for (const set of [again, fromDisk]) {
      expect(set.fingerprint).toBe(first.fingerprint);
      for (let i = 0; i < 5; i++) expect([...set.pixels(i)]).toEqual([...first.pixels(i)]);
    }
    await writeFile(path.join(folder, 'set/5.png'), await png([3, 3, 3]));
    expect((await load(path.join(folder, 'set'), { resolution: 8 })).count).toBe(6);
  });

  it('leaves out hidden files and folders', async () => {
    for (const name of ['a.png', '._a.png', '.hidden/b.png', 'seen/c.png']) {
      await mkdir(path.dirname(path.join(folder, 'set', name)), { recursive: true });
      await writeFile(path.join(folder, 'set', name), await png([9, 9, 9]));
    }
    const { count, skipped } = await load(path.join(folder, 'set'), { resolution: 8 });
    expect([count, skipped]).toEqual([2, []]);
  });

  it('survives a damaged cache', async () => {
    await mkdir(path.join(folder, 'set'));
    await writeFile(path.join(folder, 'set/a.png'), await png([77, 0, 0]));
    const first = await load(path.join(folder, 'set'), { resolution: 8 });
    const caches = (await readdir(path.join(folder, 'cache'), { recursive: true, withFileTypes: true })).filter(
      (file) => file.isFile(),
    );
    expect(caches.length).toBeGreaterThan(0);
    for (const file of caches) {
      const full = path.join(file.parentPath, file.name);
      await writeFile(full, (await readFile(full)).subarray(0, 50));
    }
    expect((await load(path.join(folder, 'set'), { resolution: 8 })).fingerprint).toBe(first.fingerprint);
  });
});

describe('other sources', () => {
  it('digits, which come with the package', async () => {
    const set = await load('digits');
    expect([set.count, set.height, set.width, set.channels]).toEqual([1797, 8, 8, 1]);
    expect(new Set(set.labels)).toEqual(new Set([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
    const sum = set.pixels(0).reduce((a, b) => a + b, 0);
    // The first digit of the file, 0: 294 of 64 x 16 counts.
    expect(sum).toBeCloseTo((294 * 255) / 16, -1);
  });

  it('a tar file, whose paths cannot escape', async () => {
    const archive = pack();
    archive.entry({ name: 'a.png' }, await png([0, 0, 222]));
    archive.entry({ name: '../../escape.png' }, await png([0, 222, 0]));
    archive.entry({ name: 'link.png', type: 'symlink', linkname: '/etc/passwd' });
    archive.finalize();
    const chunks: Buffer[] = [];
    for await (const chunk of archive) chunks.push(chunk as Buffer);
    await writeFile(path.join(folder, 'set.tar'), Buffer.concat(chunks));
    const set = await load(path.join(folder, 'set.tar'), { resolution: 8 });
    expect(brightPixel(set.pixels(0))).toEqual([0, 0, 222]);
    expect(set.count).toBe(1);
    expect(set.skipped).toEqual([
      { source: '../../escape.png', reason: 'its path leads out of the archive' },
      { source: 'link.png', reason: 'a symlink, not a file' },
    ]);
    expect(await readdir(path.dirname(folder))).not.toContain('escape.png');
  });

  it('a parquet file as on the Hub', async () => {
    const images = await Promise.all([png([250, 0, 0]), png([0, 250, 0])]);
    const buffer = parquetWriteBuffer({
      columnData: [
        { name: 'image', data: images.map((bytes) => new Uint8Array(bytes)), type: 'BYTE_ARRAY' },
        { name: 'label', data: [7n, 3n], type: 'INT64' },
      ],
    });
    await writeFile(path.join(folder, 'train.parquet'), new Uint8Array(buffer));
    const set = await load(path.join(folder, 'train.parquet'), { resolution: 8 });
    expect(set.count).toBe(2);
    expect(set.labels).toEqual(Int32Array.of(7, 3));
    expect(brightPixel(set.pixels(1))).toEqual([0, 250, 0]);
  });

  it('IDX files, compressed too, with labels beside', async () => {
    const header = Buffer.alloc(16);
    [0x803, 2, 3, 4].forEach((value, i) => {
      header.writeUInt32BE(value, 4 * i);
    });
    const pixels = Buffer.from(Array.from({ length: 24 }, (_, i) => i * 10));
    await writeFile(path.join(folder, 'train-images-idx3-ubyte.gz'), gzipSync(Buffer.concat([header, pixels])));
    await writeFile(
      path.join(folder, 'train-labels-idx1-ubyte.gz'),
      gzipSync(Buffer.from([0, 0, 8, 1, 0, 0, 0, 2, 5, 9])),
    );
    const set = await load(path.join(folder, 'train-images-idx3-ubyte.gz'));
    expect([set.count, set.height, set.width, set.channels]).toEqual([2, 3, 4, 1]);
    expect([...set.pixels(1)]).toEqual([...pixels.subarray(12)]);
    expect(set.labels).toEqual(Int32Array.of(5, 9));
  });

  it("CIFAR-10's binary files", async () => {
    const record = Buffer.alloc(3073);
    record[0] = 6;
    record.fill(11, 1, 1025);
    record.fill(22, 1025, 2049);
    record.fill(33, 2049);
    await writeFile(path.join(folder, 'data_batch_1.bin'), Buffer.concat([record, record]));
    const set = await load(path.join(folder, 'data_batch_1.bin'));
    expect([set.count, set.height, set.width, set.channels]).toEqual([2, 32, 32, 3]);
    expect([...set.pixels(1).subarray(0, 6)]).toEqual([11, 22, 33, 11, 22, 33]);
    expect(set.labels).toEqual(Int32Array.of(6, 6));
  });

  it('fuzzed IDX, CIFAR, tar and parquet files end in a named error or a set', async () => {
    const header = Buffer.from([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 4]);
    const archive = pack();
    archive.entry({ name: 'a.png' }, await png([1, 2, 3]));
    archive.finalize();
    const chunks: Buffer[] = [];
    for await (const chunk of archive) chunks.push(chunk as Buffer);
    const parquet = parquetWriteBuffer({
      columnData: [{ name: 'image', data: [new Uint8Array(await png([1, 2, 3]))], type: 'BYTE_ARRAY' }],
    });
    const files: [string, Buffer][] = [
      ['x-images-idx3-ubyte', Buffer.concat([header, Buffer.alloc(32, 9)])],
      ['data_batch_1.bin', Buffer.alloc(3073, 1)],
      ['x.tar', Buffer.concat(chunks)],
      ['x.parquet', Buffer.from(parquet)],
    ];
    let seed = 1;
    const random = (limit: number) => {
      seed = (seed * 48271) % 2147483647;
      return seed % limit;
    };
    for (const [name, whole] of files)
      for (let i = 0; i < 60; i++) {
        const damaged = Buffer.from(i % 2 === 0 ? whole : whole.subarray(0, random(whole.length)));
        if (i % 2 === 0) {
          const at = random(Math.min(damaged.length, 600));
          damaged[at] = (damaged[at] ?? 0) ^ (1 << random(8));
        }
        await writeFile(path.join(folder, name), damaged);
        const outcome = await load(path.join(folder, name), { resolution: 4 }).catch((error: unknown) => error);
        if (outcome instanceof Error) expect(outcome, `${name} ${i}: ${outcome.stack}`).toBeInstanceOf(DatasetError);
      }
  }, 120_000);

  it.each([
    ['nowhere', {}, /nowhere/],
    ['digits', { resolution: 0 }, /resolution/],
    ['digits', { chanels: 1 }, /chanels/],
  ] as const)('refuses %s %j', async (source, options, message) => {
    await expect(load(source, options)).rejects.toThrow(message);
  });
});
