import { copyFile, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type LoadImagesOptions, loadImages } from '../../src/datasets/index.ts';
import { type EvaluateOptions, evaluate } from '../../src/evaluation/index.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'iso-cases-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const given = (name: string) => fileURLToPath(new URL(name, new URL('files/', import.meta.url)));
const load = (source: string, options: LoadImagesOptions = {}) =>
  loadImages(source, { cache_dir: path.join(folder, 'cache'), ...options });
const filters = ['bilinear', 'bicubic', 'lanczos'] as const;

describe('resizing', () => {
  it('enlarges without moving: the result of a mirrored image is the mirrored result', async () => {
    const [a, b] = await Promise.all(
      ['a', 'b'].map((name) => load(given(`enlarge-mirror/${name}`), { resolution: 16, channels: 1 })),
    );
    const row = [0, 9, 27, 45, 63, 81, 99, 117, 135, 153, 171, 189, 207, 225, 243, 252];
    expect([...(a?.pixels(0).subarray(0, 16) ?? [])]).toEqual(row);
    expect([...(b?.pixels(0).subarray(0, 16) ?? [])]).toEqual(row.toReversed());
  });

  it('gives the bytes of Pillow: enlarged, shrunk, mixed, of one pixel, transparent', async () => {
    const { stretched } = await pilValues();
    for (const { size, channels, to, pixels, ...expected } of stretched)
      for (const interpolation of filters) {
        const source = await folderOf(pixels, size, channels);
        const set = await load(source, { resolution: to, channels, center_crop: false, interpolation });
        expect([...set.pixels(0)], `${size} to ${to}, ${channels} channels, ${interpolation}`).toEqual(
          expected[interpolation],
        );
      }
  });

  it('gives the mirrored result of a mirrored image by every filter, to one level of rounding', async () => {
    const { stretched } = await pilValues();
    for (const { size, channels, to, pixels, ...expected } of stretched.filter((one) => one.channels === 1)) {
      const source = await folderOf(pixels.toReversed(), size, channels);
      for (const interpolation of filters) {
        const set = await load(source, { resolution: to, channels, center_crop: false, interpolation });
        expected[interpolation].toReversed().forEach((value, i) => {
          expect(Math.abs((set.pixels(0)[i] ?? -9) - value), `${size} to ${to}, ${interpolation}`).toBeLessThanOrEqual(
            1,
          );
        });
      }
    }
  });

  it('gives the bytes of torchvision when the centre is cropped', async () => {
    const { cropped } = await pilValues();
    for (const { size, side, pixels, ...expected } of cropped)
      for (const interpolation of filters) {
        const source = await folderOf(pixels, size, 1);
        const set = await load(source, { resolution: side, channels: 1, interpolation });
        expect([...set.pixels(0)], `${size} to ${side}, ${interpolation}`).toEqual(expected[interpolation]);
      }
  });

  it('crops at the even one of two middles (red is ten times the column), also where training crops at random', async () => {
    await mkdir(path.join(folder, 'odd-1'));
    await sharp(given('crop-odd-1.png')).toFile(path.join(folder, 'odd-1/a.png'));
    for (const random_crop of [false, true])
      for (const [source, first] of [
        [given('crop-odd'), 20],
        [path.join(folder, 'odd-1'), 0],
      ] as const) {
        const set = await load(source, { resolution: 8, channels: 3, random_crop });
        expect(set.pixels(0)[0]).toBe(first);
      }
  });
});

describe('files of other kinds among the images', () => {
  it('are read where a decoder can, whatever their names; every other one is listed with the reason', async () => {
    const warnings: string[] = [];
    const set = await load(given('folder-mixed-formats'), {
      resolution: 8,
      on_warning: (message) => void warnings.push(message),
    });
    expect(set.count).toBe(10);
    // By name, since it is a copy of a PNG.
    expect(set.skipped).toEqual([
      { source: 'i.heic', reason: expect.stringMatching(/^'\.heic' is not the ending of an image that is read/) },
      { source: 'k.png.bak', reason: expect.stringMatching(/^'\.bak' is not/) },
    ]);
    expect(warnings).toEqual([expect.stringMatching(/folder-mixed-formats: 2 entries left out: i\.heic \(/)]);
    await expect(load(given('folder-mixed-formats'), { resolution: 8, strict: true })).rejects.toThrow(
      /2 entries cannot be used, which 'strict' refuses: i\.heic/,
    );
  });

  it.each([
    ['tif-big.tif', 8, [116, 148, 172]],
    ['jpg-jfif.jfif', 64, [0, 224, 0]],
    ['bmp.bmp', 64, [0, 224, 0]],
    // libheif's; Pillow 9.4 has no decoder of it.
    ['avif-brand-mif1.avif', 64, undefined],
  ] as const)('%s is read', async (name, resolution, expected) => {
    const source = path.join(folder, 'one');
    await mkdir(source);
    await copyFile(given(`pics/${name}`), path.join(source, name));
    const set = await load(source, { resolution, strict: true });
    // The pixel in row 3 and column 5, as Pillow reads it.
    const at = (3 * resolution + 5) * 3;
    if (expected) expect([...set.pixels(0).subarray(at, at + 3)]).toEqual(expected);
  });
});

describe('evaluate', () => {
  const fid = async (real: string, fake: string, options: Partial<EvaluateOptions> = {}) => {
    const report = await evaluate({
      real: given(real),
      fake: given(fake),
      metrics: ['fid'],
      extractor: 'raw-pixels',
      cache_dir: path.join(folder, 'cache'),
      ...options,
    });
    return { ...report, fid: report.metrics.fid };
  };

  it('compares all of 40 pictures of which half are BMP', async () => {
    const report = await fid('eval-rgb', 'eval-bmpmix');
    expect([report.real.count, report.fake.count]).toEqual([40, 40]);
    expect(report.fid).toBeCloseTo(0, 6);
  });

  it('enlarges as Pillow', async () => {
    expect((await fid('eval-rgb', 'eval-big', { resolution: 12 })).fid).toBeCloseTo(8.13, 2);
  });

  it('leaves out what cannot be read and says so, as training does; with strict it refuses', async () => {
    const broken = path.join(folder, 'broken');
    await cp(given('eval-rgb'), broken, { recursive: true });
    const [whole = ''] = (await readdir(broken)).sort();
    const bytes = await readFile(path.join(broken, whole));
    await writeFile(path.join(broken, 'x.png'), bytes.subarray(0, bytes.length - 30));
    await writeFile(path.join(broken, 'y.heic'), 'not a picture');
    const warnings: string[] = [];
    const on_warning = (message: string) => void warnings.push(message);
    const report = await fid('eval-rgb', broken, { on_warning });
    expect(report.fake.count).toBe(40);
    expect(report.fake.skipped?.map(({ source }) => source)).toEqual(['x.png', 'y.heic']);
    expect(report.real.skipped).toBeUndefined();
    expect(warnings).toEqual([expect.stringMatching(/broken: 2 entries left out: x\.png \(.*y\.heic \(/)]);
    expect(report.fid).toBeCloseTo(0, 6);
    await expect(fid('eval-rgb', broken, { strict: true })).rejects.toThrow(/'strict' refuses: x\.png/);

    const trained = await load(broken, { resolution: 6, on_warning });
    expect(trained.count).toBe(40);
    expect(trained.skipped).toEqual(report.fake.skipped);
    expect(warnings[1]).toBe(warnings[0]);

    const part = await fid('eval-rgb', broken, { num_samples: 40, on_warning });
    expect(part.fid).toBeCloseTo(0, 6);
    await expect(fid('eval-rgb', broken, { num_samples: 41, on_warning })).rejects.toThrow(/has 40 images, fewer/);
  });
});

interface PilValues extends Record<(typeof filters)[number], number[]> {
  size: [number, number];
  pixels: number[];
}

async function pilValues(): Promise<{
  stretched: (PilValues & { channels: 1 | 3 | 4; to: [number, number] })[];
  cropped: (PilValues & { side: number })[];
}> {
  return JSON.parse(await readFile(new URL('../fixtures/images/pil-resize.json', import.meta.url), 'utf8'));
}

let folders = 0;
/** A folder with one PNG. */
async function folderOf(pixels: number[], [height, width]: [number, number], channels: 1 | 3 | 4): Promise<string> {
  const source = path.join(folder, `set-${folders++}`);
  await mkdir(source);
  const image = sharp(Uint8Array.from(pixels), { raw: { height, width, channels } });
  await image.png().toFile(path.join(source, 'a.png'));
  return source;
}
