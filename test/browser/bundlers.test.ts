import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { build as esbuild } from 'esbuild';
import { build as vite } from 'vite';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import webpack from 'webpack';
import { makePackedProject, succeed } from '../public-api/packed-project.ts';
import { hasChromium, launchTestChromium } from './harness.ts';

/*
 * The packed package, as npm installs it, in bundles of three bundlers without a plugin, an alias or a setting of the
 * user's. `npm run build` is not needed: test/build.ts compiles a copy.
 */

const PROGRAM = `
import { isoLoss, pipeline, Trainer } from 'iso-diffusion';
globalThis.isoDiffusion = { isoLoss, pipeline, Trainer };
`;

const PAGE = `<!doctype html><script type="module">
import * as iso from '/web/iso-diffusion.js';
globalThis.iso = iso;
</script>`;

let project: string;
let entry: string;
beforeAll(() => {
  project = makePackedProject(inject('build'));
  entry = path.join(project, 'page.js');
  writeFileSync(entry, PROGRAM);
}, 300_000);
afterAll(() => rmSync(project, { recursive: true, force: true }));

const bundlers: Readonly<Record<string, (out: string) => Promise<unknown>>> = {
  esbuild: (out) =>
    esbuild({
      entryPoints: [entry],
      bundle: true,
      platform: 'browser',
      format: 'esm',
      splitting: true,
      outdir: out,
      logLevel: 'silent',
    }),
  vite: async (out) => {
    writeFileSync(path.join(project, 'index.html'), '<script type="module" src="./page.js"></script>');
    await vite({ root: project, configFile: false, logLevel: 'silent', build: { outDir: out, target: 'esnext' } });
  },
  webpack: async (out) => {
    const compiler = webpack({
      mode: 'production',
      // Minifying takes a minute and changes no import.
      optimization: { minimize: false },
      entry,
      output: { path: out },
      performance: { hints: false },
    });
    const { errors = [] } = await new Promise<webpack.StatsCompilation>((resolve, reject) =>
      compiler.run((error, stats) => (stats ? resolve(stats.toJson({ errors: true })) : reject(error))),
    );
    expect(errors.map(({ message }) => message)).toEqual([]);
  },
};

describe('the packed package in a bundle', () => {
  it.each(Object.keys(bundlers))(
    'is built by %s as it stands, without a module of Node',
    async (name) => {
      const out = mkdtempSync(path.join(project, `${name}-`));
      await bundlers[name]?.(out);
      const files = readdirSync(out, { recursive: true, encoding: 'utf8' }).filter((file) => /\.m?js$/.test(file));
      const texts = files.map((file) => readFileSync(path.join(out, file), 'utf8'));
      expect(texts.some((text) => text.includes('iso-diffusion'))).toBe(true);
      const ofNode = /(?:from|import|require)\s*\(?\s*["']node:[a-z/_]+["']/;
      expect(texts.flatMap((text) => ofNode.exec(text)?.[0] ?? [])).toEqual([]);
    },
    300_000,
  );
});

describe.skipIf(!hasChromium)('the module for CDNs', () => {
  it('trains, saves, and draws from a zip file in a page without a bundler', async () => {
    const dist = path.join(project, 'node_modules/iso-diffusion/dist');
    succeed('npx', ['tsx', 'scripts/build-web.ts', dist], process.cwd());
    const asked: string[] = [];
    const server = createServer((request, response) => {
      const { pathname } = new URL(request.url ?? '/', 'http://localhost');
      if (pathname === `/assets/digits/digits.csv.gz`) return void response.end(readFileSync(pathname.slice(1)));
      const file = path.join(dist, pathname);
      if (!file.endsWith('.js')) return void response.setHeader('content-type', 'text/html').end(PAGE);
      response.setHeader('content-type', 'text/javascript').end(readFileSync(file));
    });
    await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
    const browser = await launchTestChromium();
    try {
      const page = await browser.newPage();
      await page.route('https://cdn.jsdelivr.net/npm/onnxruntime-web@*/dist/**', (route) => {
        asked.push(route.request().url());
        return route.fulfill({
          path: path.join('node_modules/onnxruntime-web/dist', path.basename(route.request().url())),
        });
      });
      await page.goto(`http://localhost:${(server.address() as AddressInfo).port}/`);
      await page.waitForFunction(() => 'iso' in globalThis);
      const drawn = await page.evaluate(async () => {
        const { iso } = globalThis as unknown as { iso: typeof import('../../src/index.ts') };
        const model = new iso.ConditionalDense({ hidden_features: 16, num_train_timesteps: 50 });
        const trainer = new iso.Trainer({
          model,
          args: { output_dir: 'run', max_steps: 20, per_device_train_batch_size: 32, device: 'cpu' },
          train_dataset: await iso.loadPoints('moons', { n: 200 }),
          loss: iso.isoLoss({ lambda: 0.1 }),
          noise_scheduler: new iso.DDPMScheduler({ num_train_timesteps: 50 }),
        });
        await trainer.train();
        await trainer.savePipeline('roll', { layout: 'transformers.js' });
        const generate = await iso.pipeline('unconditional-point-generation', await iso.zipFolder('roll'), {
          device: 'cpu',
        });
        const { points } = await generate({ batch_size: 3, num_inference_steps: 5, seed: 0 });
        const digits = await iso.loadImages('digits');
        const refused = await iso.loadImages('pets').catch((error: Error) => `${error.name}: ${error.message}`);
        return { points: [...points], digits: digits.count, refused };
      });
      expect(drawn.points).toHaveLength(6);
      expect(drawn.points.every(Number.isFinite)).toBe(true);
      expect(drawn.digits).toBe(1797);
      expect(drawn.refused).toMatch(/^NotInBrowserError: 'pets' cannot be opened in a browser/);
      expect(asked.map((url) => path.basename(url)).sort()).toEqual([
        'ort-wasm-simd-threaded.asyncify.mjs',
        'ort-wasm-simd-threaded.asyncify.wasm',
      ]);
    } finally {
      await browser.close();
      server.close();
    }
  }, 120_000);
});
