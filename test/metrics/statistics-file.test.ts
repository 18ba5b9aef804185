import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { zipSync } from 'fflate';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DatasetError, IsoDiffusionError } from '../../src/errors.ts';
import { npyBytes } from '../../src/files/npy.ts';
import { FeatureStatistics, mergeStatistics } from '../../src/metrics/frechet/statistics.ts';
import { readStatistics, StatisticsFileError, writeStatistics } from '../../src/metrics/frechet/statistics-file.ts';
import { RandomStream } from '../../src/random/random-stream.ts';

const fixture = (name: string) => new URL(`../fixtures/metrics/${name}`, import.meta.url);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'statistics-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function someStatistics(seed: number, count: number, dims: number) {
  const statistics = new FeatureStatistics(dims);
  statistics.add(new RandomStream(seed).fillNormal(new Float32Array(count * dims)));
  return statistics.gaussian();
}

function npz(arrays: Record<string, Uint8Array>): Uint8Array {
  return zipSync(Object.fromEntries(Object.entries(arrays).map(([name, bytes]) => [`${name}.npy`, bytes])));
}

function npy(values: number[], columns: number): Uint8Array {
  return npyBytes(Float32Array.from(values), [values.length / columns, columns]);
}

describe('files of numpy', () => {
  test.each(['statistics-numpy.npz', 'statistics-numpy-compressed.npz'])('%s', async (name) => {
    const { features, mu, sigma } = JSON.parse(await readFile(fixture('statistics-numpy.json'), 'utf8'));
    const read = await readStatistics(fixture(name).pathname);
    expect([...read.mu]).toEqual(mu);
    expect([...read.sigma]).toEqual(sigma);
    expect(read.count).toBeUndefined();
    const ours = new FeatureStatistics(5);
    ours.add(Float32Array.from(features));
    const { sigma: ourSigma } = ours.gaussian();
    // np.cov in float64 of the same 50 vectors, other order of summation.
    for (let i = 0; i < 25; i++) expect(Math.abs((ourSigma[i] as number) - sigma[i])).toBeLessThan(1e-13);
  });
});

describe('our files', () => {
  test('give back every bit', async () => {
    const statistics = someStatistics(1, 100, 7);
    const file = path.join(folder, 'new', 'whole.npz');
    await writeStatistics(file, statistics);
    expect(await readStatistics(file)).toEqual(statistics);
  });

  test('of parts merge to the whole', async () => {
    const features = new RandomStream(4).fillNormal(new Float32Array(900 * 6));
    const whole = new FeatureStatistics(6);
    whole.add(features);
    const files: string[] = [];
    for (let part = 0; part < 3; part++) {
      const statistics = new FeatureStatistics(6);
      statistics.add(features.subarray(part * 1800, (part + 1) * 1800));
      const file = path.join(folder, `part-${part}.npz`);
      await writeStatistics(file, statistics.gaussian());
      files.push(file);
    }
    const merged = mergeStatistics(...(await Promise.all(files.map(readStatistics))));
    const single = whole.gaussian();
    expect(merged.count).toBe(900);
    // The acceptance bound of the project.
    merged.mu.forEach((value, d) => {
      expect(Math.abs(value - (single.mu[d] as number))).toBeLessThan(1e-10);
    });
    merged.sigma.forEach((value, at) => {
      expect(Math.abs(value - (single.sigma[at] as number))).toBeLessThan(1e-10);
    });
  });
});

async function readBytes(bytes: Uint8Array) {
  const file = path.join(folder, 'x.npz');
  await writeFile(file, bytes);
  return readStatistics(file);
}

const failureOf = (bytes: Uint8Array): Promise<Error> =>
  readBytes(bytes).then(
    () => new Error('no failure'),
    (failure) => failure,
  );

describe('wrong files are named errors', () => {
  const mu = npy([1, 2], 1);
  const sigma = npy([1, 0, 0, 1], 2);
  test.each<[string, Uint8Array, RegExp]>([
    ['no zip', new Uint8Array(100), /not an .npz file/],
    ['an empty file', new Uint8Array(0), /not an .npz file/],
    ['wrong keys', npz({ mean: mu, cov: sigma }), /no mu: it holds mean.npy, cov.npy/],
    ['no sigma', npz({ mu }), /no sigma/],
    ['a sigma of another size', npz({ mu, sigma: npy([1, 0, 0, 1, 0, 0], 2) }), /sigma is 3 x 2, but mu has 2/],
    ['a sigma of other columns', npz({ mu, sigma: npy([1, 0, 0, 1], 1) }), /must be 2 x 2/],
    ['a count that is no count', npz({ mu, sigma, count: npy([1.5], 1) }), /count is 1.5/],
    ['two counts', npz({ mu, sigma, count: npy([10, 10], 1) }), /count is 2 values/],
  ])('%s', async (_, bytes, message) => {
    const failure = await failureOf(bytes);
    expect(failure).toBeInstanceOf(StatisticsFileError);
    expect(failure.message).toMatch(message);
  });

  test('NaN and arrays that are no arrays', async () => {
    const holdsNaN = await failureOf(npz({ mu: npy([1, Number.NaN], 1), sigma }));
    expect(holdsNaN.message).toMatch(/x.npz, mu.*NaN/);
    expect(await failureOf(npz({ mu: new Uint8Array(50), sigma }))).toBeInstanceOf(DatasetError);
  });

  test('more files than statistics have', async () => {
    const many = Object.fromEntries(Array.from({ length: 101 }, (_, i) => [`a${i}`, new Uint8Array(1)]));
    expect((await failureOf(npz(many))).message).toMatch(/more than 100 files/);
  });

  test('a directory that claims a huge array is refused before it is inflated', async () => {
    const bytes = npz({ mu, sigma });
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    // The uncompressed size in the first central directory entry (PKZIP APPNOTE 4.3.12, offset 24).
    for (let at = 0; at < bytes.length - 4; at++) {
      if (view.getUint32(at, true) !== 0x02014b50) continue;
      view.setUint32(at + 24, 0xf0000000, true);
      break;
    }
    expect((await failureOf(bytes)).message).toMatch(/at most/);
  });

  test('a missing file', async () => {
    await expect(readStatistics(path.join(folder, 'none.npz'))).rejects.toThrow(StatisticsFileError);
    await expect(readStatistics(folder)).rejects.toThrow(StatisticsFileError);
  });

  test('any damage is a named error or still statistics, and never hangs', async () => {
    const file = path.join(folder, 'fuzz.npz');
    await writeStatistics(file, someStatistics(2, 30, 3));
    const intact = await readFile(file);
    const damage = fc.record({
      length: fc.integer({ min: 0, max: intact.length }),
      bytes: fc.array(fc.tuple(fc.nat(intact.length - 1), fc.nat(255)), { maxLength: 6 }),
    });
    await fc.assert(
      fc.asyncProperty(damage, async ({ length, bytes }) => {
        const damaged = Uint8Array.from(intact);
        for (const [at, value] of bytes) damaged[at] = value;
        try {
          const { dims, sigma } = await readBytes(damaged.subarray(0, length));
          expect(sigma).toHaveLength(dims * dims);
        } catch (error) {
          if (!(error instanceof IsoDiffusionError)) throw error;
        }
      }),
      { numRuns: 1000, seed: 1 },
    );
    await writeFile(file, intact.subarray(0, intact.length - 1));
    await expect(readStatistics(file)).rejects.toThrow(StatisticsFileError);
  });
});
