import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { zipSync } from 'fflate';
import sharp from 'sharp';
import { describe, expect, it, vi } from 'vitest';
import { imagesFromArray } from '../../src/datasets/images/image-set.ts';
import { loadImages } from '../../src/datasets/images/load-images.ts';
import { loadPoints } from '../../src/datasets/points/load-points.ts';
import { InvalidArgumentError } from '../../src/errors.ts';
import { evaluate } from '../../src/evaluation/evaluate.ts';
import type { FeatureImage } from '../../src/evaluation/extractors/feature-extractor.ts';
import { RawPixels } from '../../src/evaluation/extractors/feature-extractor.ts';
import type { EvaluateOptions } from '../../src/evaluation/options.ts';
import { FeatureStatistics } from '../../src/metrics/frechet/statistics.ts';
import { readStatistics, writeStatistics } from '../../src/metrics/frechet/statistics-file.ts';
import { inceptionScore } from '../../src/metrics/inception-score.ts';
import { RandomStream, STREAM } from '../../src/random/random-stream.ts';
import { savePipeline, temporaryFolder } from '../pipelines/saved-pipeline.ts';
import { numberedImages, tableExtractor, tableRows } from './table-images.ts';

const folder = await temporaryFolder();
const cache_dir = path.join(folder, 'cache');

interface Fixture {
  real_shape: [number, number];
  fake_shape: [number, number];
  real: number[];
  fake: number[];
}
function fixtures<T>(name: string): (Fixture & T)[] {
  const file = new URL(`../fixtures/metrics/${name}.json`, import.meta.url);
  return [JSON.parse(readFileSync(file, 'utf8'))].flat();
}

/** The inputs of `evaluate` that stand for a fixture's features. */
function inputsOf({ real, fake, real_shape, fake_shape }: Fixture): EvaluateOptions {
  const dims = real_shape[1];
  return {
    real: numberedImages('real', 0, real_shape[0]),
    fake: numberedImages('fake', real_shape[0], fake_shape[0]),
    extractor: tableExtractor([...tableRows(real, dims), ...tableRows(fake, dims)]),
    batch_size: 7,
    cache_dir,
  };
}

describe('values of the references', () => {
  it.each(fixtures<{ expected_fid: number; rank_deficient: boolean }>('fid'))('FID $expected_fid', async (fixture) => {
    const report = await evaluate({ ...inputsOf(fixture), metrics: ['fid'] });
    // scipy's root of a singular product is known to 1e-3 only; see fid.test.ts.
    const tolerance = fixture.rank_deficient ? 1e-3 : 1e-6;
    expect(Math.abs((report.metrics.fid ?? 0) / fixture.expected_fid - 1)).toBeLessThan(tolerance);
    expect(report.extractor).toEqual({
      name: 'table',
      checksum: 'f'.repeat(64),
      dims: fixture.real_shape[1],
    });
    expect(report.real).toEqual({ name: 'real', count: fixture.real_shape[0] });
    expect(report.fake).toEqual({ name: 'fake', count: fixture.fake_shape[0] });
  });

  it('KID over one subset that is the whole set', async () => {
    const [fixture] = fixtures<{ expected_mmd2_unbiased: number }>('kid');
    if (!fixture) throw new Error('no fixture');
    const options = { metrics: ['kid' as const], kid_subset_size: 120 };
    const { metrics, settings } = await evaluate({ ...inputsOf(fixture), ...options });
    // float32 products of order 1.
    expect(Math.abs((metrics.kid_mean ?? 0) - fixture.expected_mmd2_unbiased)).toBeLessThan(1e-6);
    expect(metrics).not.toHaveProperty('kid_std');
    expect(settings).toEqual({ seed: 0, kid_subsets: 1, kid_subset_size: 120, kid_degree: 3, kid_coef0: 1 });
  });

  it('KID of a small set over subsets of half of it, whose size is in the report', async () => {
    const [fixture] = fixtures<object>('kid');
    if (!fixture) throw new Error('no fixture');
    const { metrics, settings } = await evaluate({ ...inputsOf(fixture), metrics: ['kid'] });
    expect(settings).toEqual({ seed: 0, kid_subsets: 100, kid_subset_size: 60, kid_degree: 3, kid_coef0: 1 });
    // As numpy gives them: see kid.test.ts.
    expect(Math.abs((metrics.kid_mean ?? 0) - 0.03276832441892862)).toBeLessThan(1e-6);
    expect(Math.abs((metrics.kid_std ?? 0) - 0.043680596389319794)).toBeLessThan(1e-6);
  });

  it.each(fixtures<{ nearest_k: number; expected: object }>('prdc').slice(4, 6))(
    'PRDC of k $nearest_k',
    async (fixture) => {
      const { nearest_k } = fixture;
      const { metrics } = await evaluate({ ...inputsOf(fixture), metrics: ['prdc'], nearest_k });
      for (const [name, value] of Object.entries(fixture.expected)) expect(metrics[name]).toBeCloseTo(value, 12);
    },
  );

  it('the Inception Score of a set that is sorted by class', async () => {
    const classes = 10;
    const rows = Array.from({ length: 500 }, (_, i) =>
      Array.from({ length: classes }, (_, c) => (c === Math.floor(i / 50) ? 40 : 0)),
    );
    const inputs = {
      real: numberedImages('real', 0, 2),
      fake: numberedImages('fake', 0, 500),
      logits_extractor: tableExtractor(rows),
      metrics: ['is' as const],
    };
    const whole = await evaluate({ ...inputs, is_splits: 1 });
    // exp(KL) = the number of classes for certain and evenly distributed predictions.
    expect(whole.metrics.is_mean).toBeCloseTo(classes, 6);
    expect(whole.metrics).not.toHaveProperty('is_std');
    const splits = await evaluate(inputs);
    const sorted = { data: Float32Array.from(rows.flat()), count: 500, dims: classes };
    expect(inceptionScore(sorted).mean).toBeCloseTo(1, 6);
    expect(splits.metrics.is_mean).toBeGreaterThan(8);
    expect(splits.logits_extractor?.name).toBe('table');
  });
});

describe('raw pixels', () => {
  it('have noise in the manifold of real digits, of which the report warns', async () => {
    const real = await loadImages('digits');
    const { height, width, channels } = real;
    const pixels = Float64Array.from({ length: height * width }, () => 0);
    for (let i = 0; i < real.count; i++)
      real.pixels(i).forEach((value, d) => {
        pixels[d] = (pixels[d] ?? 0) + value / real.count;
      });
    const stream = new RandomStream(0, STREAM.noise);
    const noise = Uint8ClampedArray.from(
      { length: 1000 * pixels.length },
      (_, at) => (pixels[at % pixels.length] ?? 0) + 20 * stream.normal(),
    );
    const fake = imagesFromArray(new Uint8Array(noise.buffer), { height, width, channels });
    const report = await evaluate({ real, fake, extractor: 'raw-pixels', metrics: ['prdc'] });
    // scikit-learn's NearestNeighbors and pairwise_distances give the same. With 10,000 images of other noise: 0.67 to 0.69.
    expect(report.metrics.precision).toBe(0.672);
    expect(report.metrics.coverage).toBeCloseTo(32 / 1797, 12);
    expect(report.warnings).toEqual([expect.stringContaining('noise around the mean digit has Precision 0.68')]);
  });

  it('need no warning where other features are compared', async () => {
    const report = await evaluate({
      real: numberedImages('real', 0, 8),
      fake: numberedImages('fake', 8, 8),
      extractor: tableExtractor(Array.from({ length: 16 }, (_, i) => [i, i * i])),
      metrics: ['prdc'],
    });
    expect(report).not.toHaveProperty('warnings');
  });
});

describe('cached statistics of real images', () => {
  const rows = tableRows(
    Array.from({ length: 400 }, (_, i) => Math.sin(i * i)),
    4,
  );
  const inputs = (fresh: string, warnings: string[] = []) => ({
    real: numberedImages('real', 0, 50),
    fake: numberedImages('fake', 50, 50),
    metrics: ['fid' as const],
    cache_dir: path.join(folder, fresh),
    on_warning: (message: string) => void warnings.push(message),
  });
  const onlyFile = (fresh: string) => {
    const files = readdirSync(path.join(folder, fresh, 'statistics'));
    expect(files).toHaveLength(1);
    return path.join(folder, fresh, 'statistics', files[0] ?? '');
  };

  it('are used again for the same content, and are a file of pytorch-fid', async () => {
    const extractor = tableExtractor(rows);
    const first = await evaluate({ ...inputs('again'), extractor });
    const firstCalls = extractor.calls;
    const second = await evaluate({ ...inputs('again'), extractor });
    expect(second).toEqual(first);
    // 50 generated images and a probe of each side.
    expect(extractor.calls - firstCalls).toBe(52);
    const kept = await readStatistics(onlyFile('again'));
    const direct = new FeatureStatistics(4);
    direct.add(Float32Array.from(rows.slice(0, 50).flat()));
    expect(kept).toEqual(direct.gaussian());
  });

  it('are made again, with a notice, where the file is damaged or of something else', async () => {
    const extractor = tableExtractor(rows);
    const first = await evaluate({ ...inputs('damaged'), extractor });
    const file = onlyFile('damaged');
    const intact = readFileSync(file);
    truncateSync(file, intact.length - 40);
    const warnings: string[] = [];
    expect(await evaluate({ ...inputs('damaged', warnings), extractor })).toEqual(first);
    expect(warnings).toEqual([expect.stringMatching(/\.npz is not an .npz file, or is damaged.*computed again/)]);
    expect(readFileSync(file).equals(intact)).toBe(true);

    await writeStatistics(file, { ...(await readStatistics(file)), count: 49 });
    expect(await evaluate({ ...inputs('damaged', warnings), extractor })).toEqual(first);
    expect(warnings[1]).toMatch(/statistics of something else/);
  });

  it('are not mistaken for those of other images, weights or preprocessing', async () => {
    const extractor = tableExtractor(rows);
    await evaluate({ ...inputs('other'), extractor });
    await evaluate({ ...inputs('other'), extractor: { ...extractor, checksum: 'e'.repeat(64) } });
    const plain = tableExtractor(rows);
    const brighter = {
      ...plain,
      extract: async (images: readonly FeatureImage[]) => (await plain.extract(images)).map((x) => x + 1),
    };
    await evaluate({ ...inputs('other'), extractor: brighter });
    await evaluate({ ...inputs('other'), extractor, real: numberedImages('real', 1, 50) });
    expect(readdirSync(path.join(folder, 'other', 'statistics'))).toHaveLength(4);
  });

  it('that cannot be written are a warning', async () => {
    const warnings: string[] = [];
    writeFileSync(path.join(folder, 'no-folder'), '');
    const report = await evaluate({ ...inputs('no-folder', warnings), extractor: tableExtractor(rows) });
    expect(report.metrics.fid).toBeGreaterThan(0);
    expect(warnings).toEqual([expect.stringMatching(/statistics are not kept/)]);
  });
});

describe('images of files and sets', () => {
  const image = (value: number, size = 6) =>
    sharp(Buffer.alloc(size * size * 3, value), { raw: { width: size, height: size, channels: 3 } });

  it('a folder of images and the same images as a set are at distance 0', async () => {
    await mkdir(path.join(folder, 'shades'));
    for (let i = 0; i < 12; i++) {
      const noise = Uint8Array.from({ length: 6 * 5 * 3 }, (_, p) => (p * 37 + i * 91) % 256);
      await sharp(noise, { raw: { width: 5, height: 6, channels: 3 } })
        .png()
        .toFile(path.join(folder, 'shades', `${i}.png`));
    }
    const set = await loadImages(path.join(folder, 'shades'), { resolution: [6, 5], cache_dir });
    const stages = new Set<string>();
    const report = await evaluate({
      real: path.join(folder, 'shades'),
      fake: set,
      extractor: 'raw-pixels',
      metrics: ['fid', 'kid', 'prdc'],
      cache_dir,
      on_progress: (_fraction, stage) => stages.add(stage),
    });
    expect(report.extractor.name).toBe('raw-pixels 6x5x3');
    expect(report.metrics.fid).toBeLessThan(1e-9);
    expect(report.metrics).toMatchObject({ precision: 1, recall: 1, coverage: 1 });
    expect([...stages]).toEqual(['real', 'fake', 'fid', 'kid', 'prdc']);
  });

  it('grey images are compared with coloured ones in colour, transparent ones on white', async () => {
    const digits = await loadImages('digits', { max_images: 40 });
    const rgba = await loadImages('digits', { max_images: 40, channels: 4 });
    const report = await evaluate({
      real: digits,
      fake: rgba,
      extractor: 'raw-pixels',
      metrics: ['fid'],
      cache_dir,
    });
    expect(report.extractor.name).toBe('raw-pixels 8x8x3');
    expect(report.metrics.fid).toBeLessThan(1e-9);
  });

  it('takes a random part by seed, the same one again', async () => {
    const inputs = {
      real: 'digits',
      fake: 'digits',
      extractor: 'raw-pixels',
      metrics: ['fid' as const],
      cache_dir,
    };
    const part = await evaluate({ ...inputs, num_samples: 100, num_real: 300, seed: 1 });
    expect([part.real.count, part.fake.count]).toEqual([300, 100]);
    expect(part.metrics.fid).toBeGreaterThan(0);
    expect(await evaluate({ ...inputs, num_samples: 100, num_real: 300, seed: 1 })).toEqual(part);
    const other = await evaluate({ ...inputs, num_samples: 100, num_real: 300, seed: 2 });
    expect(other.metrics.fid).not.toBe(part.metrics.fid);
  });

  it('stops when the signal aborts', async () => {
    const controller = new AbortController();
    const evaluation = evaluate({
      real: 'digits',
      fake: 'digits',
      extractor: 'raw-pixels',
      metrics: ['fid'],
      cache_dir: path.join(folder, 'aborted'),
      signal: controller.signal,
      on_progress: () => controller.abort(new Error('enough')),
    });
    await expect(evaluation).rejects.toThrow('enough');
  });

  it.each<[string, () => Promise<unknown>, string, RegExp]>([
    [
      'unreadable',
      async () => writeFileSync(path.join(folder, 'bad-unreadable', 'b.png'), 'no image'),
      'DatasetError',
      /bad-unreadable: 1 entry cannot be used, which 'strict' refuses: b.png \(not a PNG/,
    ],
    [
      'truncated',
      async () => {
        const noise = Uint8Array.from({ length: 108 }, (_, p) => (p * 97) % 251);
        const png = await sharp(noise, { raw: { width: 6, height: 6, channels: 3 } })
          .png()
          .toBuffer();
        writeFileSync(path.join(folder, 'bad-truncated', 'b.png'), png.subarray(0, png.length - 60));
      },
      'DatasetError',
      /bad-truncated: 1 entry cannot be used, which 'strict' refuses: b.png/,
    ],
    [
      'mixed',
      () =>
        image(1, 7)
          .png()
          .toFile(path.join(folder, 'bad-mixed', 'b.png')),
      'DatasetError',
      /different sizes: a.png is 6x6, b.png is 7x7.*Give a resolution/,
    ],
    ['few', async () => {}, 'InvalidArgumentError', /real has 1 samples, but 'fid' needs at least 2/],
  ])('refuses a folder that is %s', async (name, make, error, message) => {
    const bad = path.join(folder, `bad-${name}`);
    await mkdir(bad);
    await image(0).png().toFile(path.join(bad, 'a.png'));
    await make();
    const failure = await evaluate({
      real: bad,
      fake: 'digits',
      extractor: new RawPixels({ height: 6, width: 6, channels: 3 }),
      metrics: ['fid'],
      resolution: name === 'mixed' ? undefined : 6,
      strict: true,
      cache_dir,
    }).catch((caught) => caught);
    expect(failure).toBeInstanceOf(Error);
    expect(failure.name).toBe(error);
    expect(failure.message).toMatch(message);
    if (name !== 'mixed') return;
    await evaluate({
      real: bad,
      fake: bad,
      extractor: 'raw-pixels',
      metrics: ['fid'],
      resolution: 6,
      cache_dir,
    });
  });
});

describe('what does not fit is refused before the work', () => {
  const good = { real: 'digits', fake: 'digits', extractor: 'raw-pixels', cache_dir };
  const table = tableExtractor([[1, 2]]);
  it.each<[string, Partial<EvaluateOptions>, RegExp]>([
    ['a set of k', { num_samples: 5 }, /fake has 5 samples, but 'prdc' needs at least 6 for the 5 nearest/],
    [
      'fewer than the splits',
      { metrics: ['is'], num_samples: 9, logits_extractor: table },
      /needs at least 10 for 10 splits/,
    ],
    ['a subset larger than a set', { kid_subset_size: 5000 }, /'kid' needs at least 5000/],
    ['more than there are', { num_samples: 5000 }, /digits has 1797 images, fewer than the 5000/],
    [
      'another size',
      { fake: numberedImages('small', 0, 50) },
      /1 x 2 x 1, but this extractor compares images of 8 x 8 x 1/,
    ],
    [
      'an extractor of wrong rank',
      { extractor: { ...table, extract: async (images) => new Float32Array(images.length * 8) } },
      /the extractor table gave 8 values for 1 images; its dims, 2, need 2: one vector an image/,
    ],
    ['no logits', { metrics: ['is'] }, /'is' needs class logits: give logits_extractor/],
    ['an unknown metric', { metrics: ['fd' as never] }, /metrics\[0\]/],
    ['points for images', { fake: 'moons' }, /the generated samples are points|real ones are images/],
    ['nothing', { fake: 'no-such-thing' }, /fake 'no-such-thing' does not exist and is not a data set/],
  ])('%s', async (_, wrong, message) => {
    const failure = await evaluate({ ...good, ...wrong }).catch((caught) => caught);
    expect(failure).toBeInstanceOf(InvalidArgumentError);
    expect(failure.message).toMatch(message);
  });

  it('without an extractor says what to fetch and where to put it', async () => {
    vi.stubEnv('ISO_DIFFUSION_EXTRACTORS', path.join(folder, 'no-extractors'));
    try {
      const failure = await evaluate({
        real: 'digits',
        fake: 'digits',
        cache_dir,
        extractor_options: { local_files_only: true },
      }).catch((caught) => caught);
      expect(failure.name).toBe('ExtractorNotFoundError');
      expect(failure.message).toContain(path.join(folder, 'no-extractors'));
      expect(failure.message).toMatch(/https:\/\/.*inception.*raw-pixels/);
    } finally {
      vi.unstubAllEnvs();
    }
  });
});

describe('files of statistics', () => {
  const statistics = (offset: number, dims = 4) => {
    const sum = new FeatureStatistics(dims);
    sum.add(Float32Array.from({ length: 100 * dims }, (_, i) => Math.sin(i * i) + offset));
    return sum.gaussian();
  };

  it('stand for either side in FID, and only there', async () => {
    const file = path.join(folder, 'real.npz');
    await writeStatistics(file, statistics(0));
    const both = await evaluate({ real: file, fake: statistics(2) });
    // Equal covariances, means 2 apart in 4 dimensions.
    expect(both.metrics.fid).toBeCloseTo(16, 6);
    const images = { fake: numberedImages('fake', 0, 50), extractor: tableExtractor([[1, 0, 0, 2]]) };
    const one = await evaluate({ real: file, ...images });
    expect(one.metrics).toEqual({ fid: expect.any(Number) });
    expect(one.real).toEqual({ name: file, count: 100 });
    await expect(evaluate({ real: file, ...images, metrics: ['kid'] })).rejects.toThrow(
      /'kid' compares images one by one/,
    );
    await expect(evaluate({ real: statistics(0, 3), ...images })).rejects.toThrow(/another extractor/);
    await expect(evaluate({ real: file, fake: file, metrics: ['prdc'] })).rejects.toThrow(/'prdc' needs samples/);
  });

  it('with wrong keys are named', async () => {
    const file = path.join(folder, 'wrong.npz');
    writeFileSync(file, zipSync({ 'arr_0.npy': new Uint8Array(8) }));
    const failure = await evaluate({ real: file, fake: file }).catch((caught) => caught);
    expect(failure.name).toBe('StatisticsFileError');
    expect(failure.message).toMatch(/wrong.npz has no mu: it holds arr_0.npy/);
  });
});

describe('points', () => {
  it('of sets and of a saved pipeline, in the units of the model', async () => {
    const [real, fake] = [await loadPoints('moons', { n: 300 }), await loadPoints('moons', { n: 200, seed: 3 })];
    const report = await evaluate({ real, fake, metrics: ['prdc', 'fid'] });
    expect(report.extractor.name).toBe('coordinates');
    expect(report.metrics.precision).toBeGreaterThan(0.9);
    expect(report.metrics.fid).toBeLessThan(0.05);
    const drawn = await evaluate({
      real: 'moons',
      fake: await savePipeline(folder),
      num_samples: 60,
      generation: { num_inference_steps: 5 },
      device: 'cpu',
    });
    expect(drawn.fake.count).toBe(60);
    expect(drawn.metrics).toMatchObject({ density: expect.any(Number) });
    await expect(evaluate({ real, fake, metrics: ['is'] })).rejects.toThrow(/points have none/);
  });
});
