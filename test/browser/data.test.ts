import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { unzipSync } from 'fflate';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { add, square } from '../../src/graph/ops/elementwise.ts';
import { reduceMean } from '../../src/graph/ops/reduce.ts';
import { evaluate, MemoryStore, pipeline } from '../../src/index.ts';
import { hasChromium, type Tab, TestBrowser } from './harness.ts';
import { evaluateDigits, gridOf, openFiles } from './page/data.ts';

/** Means of rows and of squares: 3 x 8 values an image. */
function extractor(): Uint8Array {
  const graph = new Graph('rows');
  const x = graph.input('pixels', 'float32', ['n', 3, 8, 8]);
  graph.output('features', reduceMean(add(x, square(x)), [1, 2]));
  return writeOnnx(graph);
}

/** Smooth colours, [height, width, 3]. */
function picture(seed: number, height: number, width: number): Uint8Array {
  return Uint8Array.from({ length: height * width * 3 }, (_, i) => {
    const [pixel, channel] = [Math.floor(i / 3), i % 3];
    return 128 + 100 * Math.sin(seed + channel + (pixel % width) / 4 + Math.floor(pixel / width) / 5);
  });
}

/** The browser takes plain bytes. */
async function encoded(seed: number, format: 'png' | 'jpeg', { height = 24, width = 20, orientation = 1 } = {}) {
  const image = sharp(picture(seed, height, width), { raw: { height, width, channels: 3 } });
  return new Uint8Array(await image.withMetadata({ orientation }).toFormat(format, { quality: 95 }).toBuffer());
}

/** The header of a PNG file that claims to be of 30,000 x 30,000 pixels. */
function hugePng(): Uint8Array {
  const bytes = new Uint8Array(64);
  bytes.set([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13, 0x49, 0x48, 0x44, 0x52]);
  new DataView(bytes.buffer).setUint32(16, 30_000);
  new DataView(bytes.buffer).setUint32(20, 30_000);
  bytes.set([8, 2, 0, 0, 0], 24);
  return bytes;
}

describe.skipIf(!hasChromium)('data in a browser', () => {
  let browser: TestBrowser;
  let tab: Tab;
  beforeAll(async () => {
    browser = await TestBrowser.launch();
    tab = await browser.openTab({ isolated: false });
  });
  afterAll(() => browser?.close());

  it('evaluate() measures images by an ONNX model and by their pixels as in Node.js, also the digits by name', async () => {
    const here = await evaluateDigits(extractor(), 'digits');
    const there = await tab.run('evaluateDigits', [extractor(), 'digits'], 'worker');
    for (const by of ['byModel', 'byPixels'] as const) {
      expect(there[by].extractor).toEqual(here[by].extractor);
      expect(there[by].real).toEqual(here[by].real);
      for (const [name, value] of Object.entries(here[by].metrics))
        expect(there[by].metrics[name]).toBeCloseTo(value, 5);
    }
    expect(here.byPixels.metrics.fid).toBeGreaterThan(0.1);
  });

  it('evaluate() measures points of a pipeline as in Node.js', async () => {
    const zip = await tab.run('trainAndExport', ['measured', 50], 'worker');
    const generate = await pipeline('unconditional-point-generation', zip, { device: 'cpu' });
    const generation = { num_inference_steps: 20 };
    const { metrics } = await evaluate({
      real: 'swiss-roll',
      fake: generate,
      num_samples: 500,
      generation,
      metrics: ['prdc'],
    });
    await generate.dispose();
    expect(await tab.run('evaluatePoints', [zip], 'worker')).toEqual(metrics);
  });

  it('files of a dropped folder have its classes, and PNG files the pixels that they have in Node.js', async () => {
    const files = {
      'animals/cats/1.png': await encoded(1, 'png'),
      'animals/cats/2.png': await encoded(2, 'png', { height: 40, width: 30 }),
      'animals/dogs/3.png': await encoded(3, 'png'),
      'animals/dogs/notes.txt': new TextEncoder().encode('not an image'),
      'animals/.hidden/4.png': await encoded(4, 'png'),
    };
    for (const resolution of [undefined, 12]) {
      const there = await tab.run('openFiles', [files, resolution]);
      expect(there).toEqual(await openFiles(files, resolution));
      expect(there.classNames).toEqual(['cats', 'dogs']);
      expect(there.labels).toEqual([0, 0, 1]);
      expect(there.skipped).toHaveLength(1);
    }
  });

  it('a JPEG file has nearly the pixels that it has in Node.js, and those of its orientation', async () => {
    const turned = await encoded(5, 'jpeg', { height: 30, width: 40, orientation: 6 });
    const files = { 'a/5.jpg': await encoded(5, 'jpeg'), 'a/6.jpg': turned };
    const [there, here] = [await tab.run('openFiles', [files]), await openFiles(files)];
    for (const [i, pixels] of here.pixels.entries()) {
      const differences = pixels.map((value, at) => Math.abs(value - (there.pixels[i]?.[at] ?? Number.NaN)));
      // Decoders of JPEG may differ by a unit or two.
      expect(Math.max(...differences)).toBeLessThanOrEqual(3);
    }
  });

  it('a huge image and one that is damaged are refused with a sentence before they are decoded', async () => {
    expect(await tab.run('refusedFiles', [{ 'huge.png': hugePng() }])).toMatch(
      /huge\.png: 30000x30000 pixels are more than the 100000000 that are decoded/,
    );
    const half = (await encoded(6, 'png')).subarray(0, 300);
    expect(await tab.run('refusedFiles', [{ 'half.png': half }])).toMatch(
      /^no image of 1 files can be used; .*half\.png/,
    );
    expect(await tab.run('refusedFiles', [{ 'text.png': new TextEncoder().encode('hello') }])).toMatch(/text\.png/);
  });

  it('a grid of images is the picture of Node.js', async () => {
    const pixels = picture(7, 12 * 5, 4);
    const raw = async (png: Uint8Array) => sharp(png).removeAlpha().raw().toBuffer({ resolveWithObject: true });
    const there = await raw(await tab.run('gridOf', [pixels], 'worker'));
    const here = await raw(await gridOf(pixels));
    expect([there.info.width, there.info.height]).toEqual([here.info.width, here.info.height]);
    expect(Buffer.compare(there.data, here.data)).toBe(0);
  });

  it('the file system of the origin answers as the memory does, in the page and in a worker', async () => {
    const memory = await tab.run('exerciseStore', ['memory']);
    expect(memory).toHaveLength(13);
    for (const where of ['page', 'worker'] as const)
      expect(await tab.run('exerciseStore', ['opfs'], where)).toEqual(memory);
  });

  describe('a pipeline of another server', () => {
    let server: Server;
    let files: Record<string, Uint8Array>;
    let address: string;
    beforeAll(async () => {
      files = unzipSync(await tab.run('trainAndExport', ['elsewhere', 20], 'worker'));
      server = createServer(({ url = '/' }, response) => {
        const [, rule = '', name = ''] = /^\/(open|closed)\/(.*)$/.exec(url) ?? [];
        if (rule === 'open') response.setHeader('Access-Control-Allow-Origin', '*');
        const body = files[name];
        response.writeHead(body ? 200 : 404).end(body);
      });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    });
    afterAll(() => server?.close());

    it('is opened by its URL where that server allows it (CORS)', async () => {
      const generate = await pipeline('unconditional-point-generation', new MemoryStore(files), { device: 'cpu' });
      const { points } = await generate({ batch_size: 3, num_inference_steps: 5, seed: 1 });
      await generate.dispose();
      const there = await tab.run('drawFrom', [`${address}/open`], 'worker');
      expect(there).toHaveLength(6);
      points.forEach((value, i) => {
        expect(there[i]).toBeCloseTo(value, 5);
      });
    });

    it('is refused with a sentence where it does not, or is not there', async () => {
      expect(await tab.run('drawFrom', [`${address}/closed`], 'worker')).toMatch(
        /^HubError: .*\/closed.* cannot be reached/,
      );
      expect(await tab.run('drawFrom', [`${address}/open/nothing`], 'worker')).toMatch(
        /^HubError: there is no saved pipeline/,
      );
    });
  });
});
