import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type ImageSet, imagesFromArray } from '../../src/datasets/images/image-set.ts';
import { loadImages } from '../../src/datasets/images/load-images.ts';
import { pointsFromArray } from '../../src/datasets/points/points.ts';
import { InvalidArgumentError } from '../../src/errors.ts';
import { SpooledImages } from '../../src/evaluation/contact-sheets/spool.ts';
import { evaluate } from '../../src/evaluation/evaluate.ts';
import type { FeatureImage } from '../../src/evaluation/extractors/feature-extractor.ts';
import { openImages, randomPart } from '../../src/evaluation/image-sources.ts';
import type { EvaluateOptions } from '../../src/evaluation/options.ts';
import { loadUnconditionalImageGeneration } from '../../src/pipelines/images.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { temporaryFolder } from '../pipelines/saved-pipeline.ts';
import { smallImageTrainer } from '../trainers/small-image-trainer.ts';

const folder = await temporaryFolder();
const SIDE = 4;
const PIXELS = SIDE * SIDE;
const stream = new RandomStream(5);

/** Images around a grey, or of noise over all greys. */
function around(grey: number, count: number, spread = 20): Uint8Array[] {
  return Array.from({ length: count }, () =>
    Uint8Array.from({ length: PIXELS }, () => grey + stream.integer(2 * spread + 1) - spread),
  );
}

function setOf(name: string, images: readonly Uint8Array[]): ImageSet {
  return imagesFromArray(new Uint8Array(Buffer.concat(images)), { height: SIDE, width: SIDE, channels: 1, name });
}

/** 60 dark and 60 bright images. */
const training = [...around(60, 60), ...around(190, 60)];
const nearCopy = (training[33] ?? new Uint8Array()).map((value, d) => (d === 0 ? value + 1 : value));
/** Dark ones only, a copy, a copy but for one pixel, and noise. */
const generated = [...around(60, 40), training[17] ?? new Uint8Array(), nearCopy, ...around(128, 3, 127)];

interface Shown {
  readonly index: number;
  readonly source?: string;
  readonly radii: number;
  readonly nearest_fake: { readonly index: number; readonly distance: number };
  readonly nearest_real: readonly { readonly index: number; readonly source?: string; readonly distance: number }[];
  readonly balls: number;
  readonly share_as_close: number;
  readonly looks: string;
}
interface ContactSheets {
  readonly uncovered: { readonly count: number; readonly shown: readonly Shown[]; readonly indices: readonly number[] };
  readonly outside: { readonly count: number; readonly shown: readonly Shown[]; readonly indices: readonly number[] };
  readonly best: readonly Shown[];
  readonly closest: readonly Shown[];
  readonly copied: { readonly count: number; readonly indices: readonly number[] };
  readonly memorised: { readonly count: number; readonly indices: readonly number[]; readonly expected_of_new: number };
}

async function sheetsOf(name: string, options: EvaluateOptions) {
  const contact_sheets = path.join(folder, name);
  const report = await evaluate({ metrics: ['prdc'], extractor: 'raw-pixels', ...options, contact_sheets });
  const record: ContactSheets = JSON.parse(readFileSync(path.join(contact_sheets, 'contact-sheets.json'), 'utf8'));
  return { report, record, file: (file: string) => readFileSync(path.join(contact_sheets, file)) };
}

function distance(a: Uint8Array | undefined, b: Uint8Array | undefined): number {
  if (!a || !b) throw new Error('there is no such image');
  return Math.sqrt(a.reduce((sum, value, d) => sum + ((value - (b[d] ?? 0)) / 255) ** 2, 0));
}

const photos = path.join(folder, 'photos');
beforeAll(async () => {
  mkdirSync(photos);
  await Promise.all(
    training.map((pixels, i) =>
      sharp(pixels, { raw: { width: SIDE, height: SIDE, channels: 1 } })
        .toColourspace('b-w')
        .png()
        .toFile(path.join(photos, `${String(i).padStart(3, '0')}.png`)),
    ),
  );
  // Left out, so that the places in the folder are not the numbers of the images.
  writeFileSync(path.join(photos, '000-damaged.png'), 'damaged');
});
afterAll(() => vi.unstubAllEnvs());

describe('contact sheets of images', () => {
  const on_warning = () => undefined;
  let found: Promise<Awaited<ReturnType<typeof sheetsOf>>>;
  beforeAll(() => {
    found = sheetsOf('found', { real: photos, fake: setOf('made', generated), on_warning });
  });

  it('show the missing cluster, the noise, and what is copied', async () => {
    const { report, record } = await found;
    const { uncovered, outside, best, closest, copied, memorised } = record;
    // The bright cluster is far from all that was made.
    expect(uncovered.indices.slice(0, 60).sort((a, b) => a - b)).toEqual(Array.from({ length: 60 }, (_, i) => 60 + i));
    expect(uncovered.shown).toHaveLength(24);
    expect(1 - uncovered.count / training.length).toBeCloseTo(report.metrics.coverage ?? 0, 12);
    expect(outside.indices.slice(0, 3).sort()).toEqual([42, 43, 44]);
    expect(1 - outside.count / generated.length).toBeCloseTo(report.metrics.precision ?? 0, 12);
    expect(copied).toEqual({ count: 1, indices: [40] });
    expect(memorised).toEqual({ count: 1, indices: [41], expected_of_new: 0.45 });
    expect(closest.slice(0, 3).map(({ index, looks }) => [index, looks])).toEqual([
      [40, 'copied'],
      [41, 'memorised'],
      [expect.any(Number), 'new'],
    ]);
    expect(closest[0]?.nearest_real[0]).toEqual({ index: 17, source: '017.png', distance: 0 });
    expect(closest[1]?.nearest_real[0]).toMatchObject({ index: 33, source: '033.png' });
    expect(best.map(({ balls }) => balls)).toEqual(best.map(({ balls }) => balls).sort((a, b) => b - a));
    expect(report.contact_sheets).toMatchObject({ uncovered: uncovered.count, copied: 1, memorised: 1 });
    expect(report.contact_sheets?.files.every((file) => existsSync(file))).toBe(true);
  });

  it('have the distances of the images that they name, the nearest first', async () => {
    const { record } = await found;
    for (const { index, nearest_real } of [...record.best, ...record.closest, ...record.outside.shown]) {
      const distances = training.map((image) => distance(image, generated[index])).sort((a, b) => a - b);
      nearest_real.forEach((one, rank) => {
        // The features are float32.
        expect(one.distance).toBeCloseTo(distance(training[one.index], generated[index]), 6);
        expect(one.distance).toBeCloseTo(distances[rank] ?? 0, 6);
        expect(one.source).toBe(`${String(one.index).padStart(3, '0')}.png`);
      });
    }
    for (const { index, nearest_fake, radii } of record.uncovered.shown) {
      const radius = training.map((image) => distance(image, training[index])).sort((a, b) => a - b)[5] ?? 0;
      expect(nearest_fake.distance).toBeCloseTo(Math.min(...generated.map((one) => distance(one, training[index]))), 6);
      expect(radii).toBeCloseTo(nearest_fake.distance / radius, 5);
    }
  });

  it('of a random part name the images of the whole set', async () => {
    const real = setOf('training', training);
    const { record } = await sheetsOf('part', { real, fake: setOf('made', generated), num_real: 30, num_samples: 20 });
    for (const { index, nearest_real } of record.best)
      for (const one of nearest_real)
        expect(one.distance).toBeCloseTo(distance(training[one.index], generated[index]), 6);
  });

  it.each([
    ['a set', () => setOf('training', training)],
    ['a folder', () => photos],
  ])('show the images that were compared: a random part of %s', async (_, source) => {
    const options = { split: undefined, strict: false, warn: () => undefined };
    const images = await openImages(source(), { ...options, select: randomPart(30, 7) });
    const compared: FeatureImage[] = [];
    for await (const batch of images.batches(8)) compared.push(...batch);
    const picked = await images.pick?.(new Set([29, 4, 17]));
    expect(compared).toHaveLength(30);
    for (const number of [29, 4, 17]) {
      expect(picked?.get(number)?.image.data).toEqual(compared[number]?.data);
      expect(picked?.get(number)?.image.data).toEqual(training[images.indices?.[number] ?? -1]);
    }
  });

  it('are the same files again', async () => {
    const given = { real: setOf('training', training), fake: setOf('made', generated) };
    const [first, second] = [await sheetsOf('once', given), await sheetsOf('twice', given)];
    for (const name of ['uncovered.png', 'outside.png', 'best.png', 'closest.png', 'contact-sheets.json'])
      expect(second.file(name).equals(first.file(name))).toBe(true);
  });

  it('say so where everything is covered', async () => {
    const set = setOf('training', training);
    const { record, file } = await sheetsOf('covered', { real: set, fake: set });
    expect(record.uncovered).toEqual({ count: 0, shown: [], indices: [] });
    expect(record.copied.count).toBe(training.length);
    expect((await sharp(file('uncovered.png')).metadata()).height).toBeLessThan(200);
  });

  it('show images of a pipeline, which draws them once', async () => {
    const temporary = path.join(folder, 'temporary');
    mkdirSync(temporary);
    vi.stubEnv('TMPDIR', temporary);
    const pipeline = path.join(folder, 'pipeline');
    await smallImageTrainer({ output_dir: path.join(folder, 'run') }).savePipeline(pipeline);
    const generation = { num_inference_steps: 2 };
    const given = { real: 'digits', fake: pipeline, num_samples: 12, num_real: 50, generation, device: 'cpu' as const };
    const { record } = await sheetsOf('drawn', given);
    const draw = await loadUnconditionalImageGeneration(pipeline, { device: 'cpu' });
    const { data } = await draw({ ...generation, batch_size: 12, seed: 0, output_type: 'uint8' });
    await draw.dispose();
    const digits = await loadImages('digits');
    expect(record.best).toHaveLength(8);
    for (const { index, nearest_real } of record.best)
      for (const one of nearest_real)
        expect(one.distance).toBeCloseTo(
          distance(digits.pixels(one.index), data.slice(64 * index, 64 * (index + 1))),
          5,
        );
    expect(readdirSync(temporary).filter((name) => name.startsWith('iso-diffusion'))).toEqual([]);
  }, 60_000);

  it('read images that were drawn from a temporary file', async () => {
    let passes = 0;
    const images = generated.map((data): FeatureImage => ({ data, height: SIDE, width: SIDE, channels: 1 }));
    const spool = await SpooledImages.create({
      ...{ name: 'drawn', count: images.length, skipped: [], height: SIDE, width: SIDE, channels: 1 },
      fingerprint: undefined,
      async *batches(size) {
        passes++;
        for (let start = 0; start < images.length; start += size) yield images.slice(start, start + size);
      },
    });
    let seen = 0;
    for await (const batch of spool.images.batches(7)) seen += batch.length;
    const picked = await spool.images.pick?.(new Set([44, 0, 13]));
    await spool.dispose();
    expect([seen, passes]).toEqual([45, 1]);
    for (const number of [44, 0, 13]) expect(picked?.get(number)?.image.data).toEqual(generated[number]);
  });
});

describe('contact sheets of points', () => {
  const grid = Float32Array.from({ length: 200 }, (_, at) =>
    at % 2 === 0 ? (at >> 1) % 10 : Math.floor((at >> 1) / 10),
  );

  it('are a scatter, and name the points', async () => {
    const real = pointsFromArray(grid, 2, { scaling: 'none' });
    // The left half of the grid, a little moved, and one point far away.
    const half = Array.from(grid).flatMap((x, at) =>
      at % 2 === 0 && x < 5 ? [x + 0.1, (grid[at + 1] ?? 0) + 0.1] : [],
    );
    const fake = pointsFromArray(Float32Array.from([...half, 50, 50]), 2, { scaling: 'none' });
    const { record, file } = await sheetsOf('points', { real, fake, nearest_k: 3 });
    expect(record.outside).toMatchObject({ count: 1, indices: [50], shown: [{ index: 50, point: [50, 50] }] });
    const right = record.uncovered.indices.filter((index) => (grid[2 * index] ?? 0) >= 6);
    expect(right).toHaveLength(40);
    expect(record.uncovered.count).toBeLessThanOrEqual(50);
    const svg = file('points.svg').toString();
    expect(svg).toContain(`real, uncovered (${record.uncovered.count})`);
    expect(svg).toContain('1 lie beyond the axes');
    // With the mark of the legend.
    expect(svg.match(/<path[^>]*fill="#D55E00"/g)).toHaveLength(record.uncovered.count + 1);
    expect(svg.match(/<path[^>]*fill="#0072B2"/g)).toHaveLength(2);
    expect((await sharp(file('points.png')).metadata()).width).toBeGreaterThan(500);
  });

  it('of three dimensions are listed, with a warning that they are not drawn', async () => {
    const points = pointsFromArray(grid.subarray(0, 120), 3, { scaling: 'none' });
    const on_warning = vi.fn();
    const { report } = await sheetsOf('in-3d', { real: points, fake: points, on_warning });
    expect(report.contact_sheets?.files).toEqual([path.join(folder, 'in-3d', 'contact-sheets.json')]);
    expect(on_warning).toHaveBeenCalledWith(expect.stringMatching(/^points of 3 dimensions are not drawn: /));
  });
});

describe('what does not fit is refused before the work', () => {
  const given = { real: setOf('training', training), fake: setOf('made', generated), extractor: 'raw-pixels' };
  writeFileSync(path.join(folder, 'file'), '');
  it.each<[string, Partial<EvaluateOptions>, RegExp]>([
    ['without prdc', { metrics: ['fid'] }, /'prdc' counts: add it to metrics/],
    ['a file', { contact_sheets: path.join(folder, 'file') }, /which is a file: name a folder/],
    ['a folder in a file', { contact_sheets: path.join(folder, 'file', 'x') }, /cannot be made/],
    ['too few images', { num_real: 6, metrics: ['prdc'] }, /real has 6 samples.*at least 7/],
  ])('%s', async (_, options, message) => {
    const run = evaluate({ ...given, contact_sheets: path.join(folder, 'none'), ...options });
    await expect(run).rejects.toThrow(InvalidArgumentError);
    await expect(run).rejects.toThrow(message);
  });
});
