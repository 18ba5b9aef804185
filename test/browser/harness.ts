import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { build } from 'esbuild';
import type { Browser, Page } from 'playwright-core';
import { CHROMIUM, hasChromium, launchChromium, processorClock, WEBGPU_FLAGS } from '../../scripts/chromium.ts';
import type { Scenarios } from './page/scenarios.ts';

/*
 * A real browser with the package in it. The pages are those of users: a bundle that esbuild makes with nothing but the
 * condition `browser`, and the .wasm file of onnxruntime-web beside it.
 */

if (!hasChromium) console.warn(`skipping the tests in a browser: no ${CHROMIUM} (apt-get install chromium)`);

export { hasChromium };

/** A page with COOP and COEP can then measure its memory at once. */
export const EAGER_MEMORY = '--enable-blink-features=ForceEagerMeasureMemory';

/**
 * Functions of WebAssembly are optimized much later than by default. Otherwise the second worker that opens onnxruntime-web
 * makes Chromium optimize all of its 25 MB, with every core, for half a minute in the background of other tests.
 */
export const LATE_OPTIMIZATION = '--js-flags=--wasm-tiering-budget=1000000000';

/** Chromium with WebGPU. */
export function launchTestChromium(): Promise<Browser> {
  return launchChromium([...WEBGPU_FLAGS, EAGER_MEMORY, LATE_OPTIMIZATION]);
}

/**
 * The memory of a page with COOP and COEP and of its workers, in MiB. Chromium waits a minute for a worker that blocks, as the
 * threads of onnxruntime do, and then leaves it out: measure where runs have one thread.
 */
export function memoryOf(page: Page): Promise<number> {
  return page.evaluate(async () => {
    const measurable = performance as Performance & {
      measureUserAgentSpecificMemory(): Promise<{ bytes: number }>;
    };
    return (await measurable.measureUserAgentSpecificMemory()).bytes / 2 ** 20;
  });
}

const here = import.meta.dirname;
const ortFiles = path.join(here, '../../node_modules/onnxruntime-web/dist');

/** The bundles of the page and of its worker by their paths. */
async function bundles(): Promise<Map<string, Uint8Array>> {
  const { outputFiles } = await build({
    entryPoints: { page: path.join(here, 'page/page.ts'), worker: path.join(here, 'page/worker.ts') },
    bundle: true,
    format: 'esm',
    platform: 'browser',
    conditions: ['browser'],
    outdir: '/',
    write: false,
    logLevel: 'error',
    alias: { 'iso-diffusion': path.join(here, '../../src/index.web.ts') },
  });
  return new Map(outputFiles.map((file) => [file.path, file.contents]));
}

const TYPES: Record<string, string> = {
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.wasm': 'application/wasm',
  '.html': 'text/html',
};
const PAGE =
  '<!doctype html><title>iso-diffusion</title><link rel="icon" href="data:,"><script type="module" src="/page.js"></script>';

interface TabOptions {
  /** Whether it has the headers COOP and COEP, without which wasm has one thread. */
  readonly isolated: boolean;
  /** Threads of onnxruntime in the page where it is isolated; default 2. */
  readonly threads?: number;
  /** Its content security policy; default none. */
  readonly policy?: string;
}

/** Serves the page. */
async function serve(files: ReadonlyMap<string, Uint8Array>, { isolated, policy }: TabOptions): Promise<Server> {
  const headers = {
    ...(isolated
      ? { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' }
      : {}),
    ...(policy ? { 'Content-Security-Policy': policy } : {}),
  };
  const content = async (url: string) => {
    if (url === '/') return PAGE;
    const name = path.basename(url);
    if (url === '/assets/digits/digits.csv.gz') return readFile(path.join(here, '../..', url));
    return files.get(url) ?? (name.startsWith('ort-wasm') ? readFile(path.join(ortFiles, name)) : undefined);
  };
  const server = createServer(async ({ url = '/' }, response) => {
    const { pathname } = new URL(url, 'http://localhost');
    const body = await content(pathname);
    const type = pathname === '/' ? 'text/html' : (TYPES[path.extname(pathname)] ?? 'application/octet-stream');
    response.writeHead(body === undefined ? 404 : 200, { ...headers, 'Content-Type': type }).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
  return server;
}

export interface Tab {
  readonly page: Page;
  /** Runs a scenario in the page, or in a new worker of it, which ends afterwards. */
  run<Name extends keyof Scenarios>(
    name: Name,
    args: Parameters<Scenarios[Name]>,
    where?: 'page' | 'worker',
  ): Promise<Awaited<ReturnType<Scenarios[Name]>>>;
  reload(): Promise<void>;
}

/** Chromium with a server for its tabs; `close` ends both. */
export class TestBrowser {
  private readonly servers: Server[] = [];
  private clock: (() => Promise<number>) | undefined;

  private constructor(
    private readonly browser: Browser,
    private readonly files: Map<string, Uint8Array>,
  ) {}

  static async launch(): Promise<TestBrowser> {
    const [browser, files] = await Promise.all([launchTestChromium(), bundles()]);
    return new TestBrowser(browser, files);
  }

  /** A tab of a profile of its own. */
  async openTab(options: TabOptions): Promise<Tab> {
    const server = await serve(this.files, options);
    this.servers.push(server);
    const page = await this.browser.newPage();
    page.on('pageerror', (error) => console.error(error));
    page.on('console', (message) => message.type() === 'error' && console.error(message.text()));
    const { port } = server.address() as AddressInfo;
    await page.goto(`http://localhost:${port}/?threads=${options.threads ?? 2}`);
    await page.waitForFunction(() => 'runScenario' in globalThis);
    return {
      page,
      run: (name, args, where = 'page') =>
        page.evaluate(([name, args, where]) => globalThis.runScenario(name, args, where), [
          name,
          args,
          where,
        ] as const) as Promise<never>,
      reload: async () => {
        await page.reload();
        await page.waitForFunction(() => 'runScenario' in globalThis);
      },
    };
  }

  /** Processor time of all processes of the browser so far, in seconds. */
  async processorSeconds(): Promise<number> {
    this.clock ??= await processorClock(this.browser);
    return this.clock();
  }

  /** Serves files of a folder below `path` from now on. */
  addFiles(path: string, files: Readonly<Record<string, Uint8Array>>): void {
    for (const [name, content] of Object.entries(files)) this.files.set(`${path}/${name}`, content);
  }

  async close(): Promise<void> {
    await this.browser.close();
    for (const server of this.servers) server.close();
  }
}
