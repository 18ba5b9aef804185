import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { loadavg } from 'node:os';
import path from 'node:path';
import { build } from 'esbuild';
import type { Page } from 'playwright-core';
import { CHROMIUM, hasChromium, launchChromium, processorClock, WEBGPU_FLAGS } from '../../scripts/chromium.ts';
import { median, printRatio } from '../harness.ts';
import type { ContenderName } from './page.ts';

/*
 * Whole training steps of the paper's 2-D network in one Chromium, in turns: this package, jax-js and tfjs. Each contender
 * has a tab of its own, and only one computes at a time.
 */

const ROUNDS = 5;

const modules = path.join(import.meta.dirname, '../../node_modules');

async function serve(isolated: boolean): Promise<Server> {
  const { outputFiles } = await build({
    entryPoints: [path.join(import.meta.dirname, 'page.ts')],
    bundle: true,
    format: 'esm',
    platform: 'browser',
    conditions: ['browser'],
    write: false,
    logLevel: 'error',
  });
  const script = outputFiles[0]?.contents ?? new Uint8Array();
  const page = '<!doctype html><link rel="icon" href="data:,"><script type="module" src="/page.js"></script>';
  const content = (url: string) => {
    const name = path.basename(url);
    if (url === '/') return page;
    if (url === '/page.js') return script;
    if (name.startsWith('ort-wasm')) return readFile(path.join(modules, 'onnxruntime-web/dist', name));
    if (name.startsWith('tfjs-backend-wasm'))
      return readFile(path.join(modules, '@tensorflow/tfjs-backend-wasm/dist', name));
    return undefined;
  };
  const types: Record<string, string> = {
    '.wasm': 'application/wasm',
    '.js': 'text/javascript',
    '.mjs': 'text/javascript',
  };
  const server = createServer(async ({ url = '/' }, response) => {
    const body = await content(url);
    const isolation = isolated
      ? { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' }
      : {};
    response.writeHead(body === undefined ? 404 : 200, {
      ...isolation,
      'Content-Type': types[path.extname(url)] ?? 'text/html',
    });
    response.end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
  return server;
}

/** @param argv 'threads' also measures with COOP and COEP, 'webgpu' also on SwiftShader. */
export async function run(argv: readonly string[]): Promise<void> {
  if (!hasChromium) throw new Error(`there is no ${CHROMIUM}: apt-get install chromium, or set CHROMIUM`);
  for (const isolated of argv.includes('threads') ? [false, true] : [false]) {
    const server = await serve(isolated);
    const browser = await launchChromium(WEBGPU_FLAGS);
    console.log(`Chromium ${browser.version()}, ${isolated ? 'with' : 'without'} COOP and COEP`);
    const openTab = async () => {
      const page = await browser.newPage();
      page.setDefaultTimeout(300_000);
      page.on('pageerror', (error) => console.error(error));
      await page.goto(`http://localhost:${(server.address() as AddressInfo).port}/`);
      await page.waitForFunction(() => 'steps' in globalThis);
      return page;
    };
    const bench = { openTab, cpuSeconds: await processorClock(browser) };
    try {
      for (const batch of [128, 512]) {
        const steps = batch === 128 ? 100 : 25;
        const wasm = await compare(['ours wasm', 'jax-js wasm', 'tfjs wasm'], batch, steps, bench);
        printRatio(`browser-jax-${batch}`, (wasm['jax-js wasm'] ?? 0) / (wasm['ours wasm'] ?? 1));
        printRatio(`browser-tfjs-${batch}`, (wasm['tfjs wasm'] ?? 0) / (wasm['ours wasm'] ?? 1));
        if (!isolated && argv.includes('webgpu'))
          await compare(['ours webgpu', 'jax-js webgpu', 'tfjs webgpu', 'tfjs webgl'], batch, 5, bench);
      }
    } finally {
      await browser.close();
      server.close();
    }
  }
}

interface Bench {
  readonly openTab: () => Promise<Page>;
  /** Processor time of all processes of the browser: other programs on the machine do not change it. */
  readonly cpuSeconds: () => Promise<number>;
}

/** Processor seconds a step of each, the median of the rounds. */
async function compare(
  names: readonly ContenderName[],
  batch: number,
  steps: number,
  { openTab, cpuSeconds }: Bench,
): Promise<Partial<Record<ContenderName, number>>> {
  const tabs = new Map<ContenderName, Page>();
  for (const name of names) {
    const page = await openTab();
    const first = await page.evaluate(([name, batch]) => globalThis.prepare(name, batch), [name, batch] as const);
    const seconds = first.seconds.toFixed(2);
    console.log(`${name}, batch ${batch}: first step ${seconds} s with its compilation, loss ${first.loss.toFixed(6)}`);
    tabs.set(name, page);
  }
  const rounds = new Map(names.map((name) => [name, { wall: [] as number[], cpu: [] as number[] }]));
  for (let round = 0; round <= ROUNDS; round++)
    for (const [name, page] of tabs) {
      const before = await cpuSeconds();
      const { seconds, loss } = await page.evaluate((count) => globalThis.steps(count), steps);
      const cpu = (await cpuSeconds()) - before;
      const figures = `${(steps / seconds).toFixed(1)} steps/s, ${((1000 * cpu) / steps).toFixed(2)} ms of processor a step`;
      console.log(
        `${name}, batch ${batch}, round ${round}: ${figures}, loss ${loss.toFixed(6)}, load ${loadavg()[0]?.toFixed(1)}`,
      );
      // The first round warms up.
      if (round === 0) continue;
      rounds.get(name)?.wall.push(steps / seconds);
      rounds.get(name)?.cpu.push(cpu / steps);
    }
  for (const page of tabs.values()) await page.close();
  return Object.fromEntries(
    [...rounds].map(([name, { wall, cpu }]) => {
      const range = `${Math.min(...wall).toFixed(1)}-${Math.max(...wall).toFixed(1)}`;
      const milliseconds = (1000 * median(cpu)).toFixed(2);
      console.log(
        `${name}, batch ${batch}: ${median(wall).toFixed(1)} steps/s (${range}), ${milliseconds} ms of processor a step`,
      );
      return [name, median(cpu)];
    }),
  );
}
