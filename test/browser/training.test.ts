import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hasChromium, type Tab, TestBrowser } from './harness.ts';
import { trainPoints, trainUNet } from './page/training.ts';

/** ||a - b|| / ||b|| */
function relativeL2(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  const norm = (vector: Float32Array) => Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
  return norm(a.map((value, i) => value - (b[i] ?? Number.NaN))) / norm(b);
}

/** The first handwritten digits of the set that comes with the package, in [-1, 1]. */
function digits(count: number): Float32Array {
  const rows = gunzipSync(readFileSync('assets/digits/digits.csv.gz')).toString().split('\n').slice(0, count);
  return Float32Array.from(
    rows.flatMap((row) =>
      row
        .split(',')
        .slice(0, 64)
        .map((value) => Number(value) / 8 - 1),
    ),
  );
}

describe.skipIf(!hasChromium)('training in a browser', () => {
  let browser: TestBrowser;
  let isolated: Tab;
  let plain: Tab;
  beforeAll(async () => {
    browser = await TestBrowser.launch();
    isolated = await browser.openTab({ isolated: true });
    plain = await browser.openTab({ isolated: false });
  });
  afterAll(() => browser?.close());

  it('runs with threads and without, as the headers of the server allow', async () => {
    expect(await isolated.run('environment', [])).toMatchObject({ isolated: true });
    expect(await plain.run('environment', [])).toMatchObject({ isolated: false });
  });

  it('knows its devices', async () => {
    expect(await plain.run('deviceReports', [], 'worker')).toMatchObject([
      { device: 'cpu', available: true },
      { device: 'webgpu', available: true },
      { device: 'cuda', available: false, advice: expect.stringContaining('cannot be used in a browser') },
    ]);
  });

  describe('100 steps of the 2-D network', () => {
    const run = { batch: 128, steps: 100 };
    const reference = trainPoints(run);
    it.each([
      ['several threads, in the page', 'page', () => isolated],
      ['several threads, in a worker', 'worker', () => isolated],
      ['one thread, in the page', 'page', () => plain],
      ['one thread, in a worker', 'worker', () => plain],
    ] as const)('are those of Node.js: %s', async (_case, where, tab) => {
      const { parameters, losses, seconds } = await tab().run('trainPoints', [run], where);
      const expected = await reference;
      const difference = relativeL2(parameters, expected.parameters);
      console.log(`${where}: ${difference.toExponential(1)} from Node.js, ${(100 / seconds).toFixed(0)} steps/s`);
      expect(difference).toBeLessThan(1e-5);
      expect(losses[99]).toBeCloseTo(expected.losses[99] ?? Number.NaN, 6);
    });
  });

  describe('3 steps of the small U-Net', () => {
    const run = { batch: 4, steps: 3, learning_rate: 1e-4 };
    const images = digits(64);
    const reference = trainUNet(run, images);
    it.each([
      ['wasm', 'cpu'],
      ['webgpu, where no op falls back to the cpu', 'webgpu'],
    ] as const)('are those of Node.js: on %s', async (_case, device) => {
      const { parameters, seconds } = await plain.run('trainUNet', [{ ...run, device }, images], 'worker');
      const difference = relativeL2(parameters, (await reference).parameters);
      console.log(`${device}: ${difference.toExponential(1)} from Node.js, ${seconds.toFixed(1)} s`);
      expect(difference).toBeLessThan(1e-4);
    });

    it('are those of Node.js: on wasm in two batches, with the gradients copied to the host', async () => {
      const twice = { ...run, batch: 2, accumulation: 2 };
      const { parameters } = await plain.run('trainUNet', [twice, images], 'worker');
      expect(relativeL2(parameters, (await trainUNet(twice, images)).parameters)).toBeLessThan(1e-4);
    });
  });
});
