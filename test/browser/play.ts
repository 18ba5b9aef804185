import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import path from 'node:path';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { launchChromium } from '../../scripts/chromium.ts';
import { EAGER_MEMORY, LATE_OPTIMIZATION } from './harness.ts';

/*
 * The page of `iso-diffusion play` as users get it: built, served by the command, opened in Chromium.
 */

export { hasChromium } from '../../scripts/chromium.ts';
export const root = path.join(import.meta.dirname, '../..');

export const DESKTOP = { width: 1200, height: 900 };
export const PHONE = { width: 390, height: 844 };

/** The command with a browser; `close` ends both. */
export class PlayBrowser {
  private constructor(
    private readonly server: ChildProcess,
    private readonly browser: Browser,
    readonly url: string,
  ) {}

  static async launch(): Promise<PlayBrowser> {
    const build = path.join(root, 'scripts/build-site.ts');
    execFileSync(process.execPath, ['--import', 'tsx', build], { cwd: root, stdio: 'pipe' });
    const command = path.join(root, 'bin/iso-diffusion.js');
    const server = spawn(process.execPath, [command, 'play', '--no-open', '--port', '0'], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const url = await new Promise<string>((resolve, reject) => {
      let output = '';
      server.stdout.on('data', (text: Buffer) => {
        output += text.toString();
        const found = /http:\S+/.exec(output);
        if (found) resolve(found[0]);
      });
      server.on('close', (code) => reject(new Error(`iso-diffusion play ended with ${code}: ${output}`)));
    });
    const browser = await launchChromium([EAGER_MEMORY, LATE_OPTIMIZATION]);
    return new PlayBrowser(server, browser, url);
  }

  /** A page in a profile of its own, with nothing in its cache. Its errors are in the list. */
  async open(hash = '', options: Parameters<Browser['newContext']>[0] = {}): Promise<OpenPage> {
    const context = await this.browser.newContext({ viewport: DESKTOP, serviceWorkers: 'block', ...options });
    await context.grantPermissions(['clipboard-read', 'clipboard-write']);
    const page = await context.newPage();
    page.setDefaultTimeout(100_000);
    const errors: string[] = [];
    page.on('pageerror', (error) => errors.push(String(error)));
    page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
    await page.goto(this.url + hash);
    return { page, context, errors };
  }

  /**
   * How long each task of the page kept its main thread busy, in milliseconds of processor time, which other programs on the
   * machine do not change.
   */
  async tasksOf(page: Page, milliseconds: number): Promise<number[]> {
    await this.browser.startTracing(page, { categories: ['toplevel'] });
    await page.waitForTimeout(milliseconds);
    const trace = (await this.browser.stopTracing()).toString();
    const { traceEvents } = JSON.parse(trace) as { traceEvents: TraceEvent[] };
    const threads = traceEvents.filter(({ name, args }) => name === 'thread_name' && args?.name === 'CrRendererMain');
    const ofPages = new Set(threads.map(({ pid, tid }) => `${pid}/${tid}`));
    return traceEvents
      .filter(({ name, pid, tid }) => name.endsWith('RunTask') && ofPages.has(`${pid}/${tid}`))
      .flatMap(({ tdur }) => (tdur === undefined ? [] : [tdur / 1000]));
  }

  async close(): Promise<void> {
    await this.browser.close();
    this.server.kill('SIGTERM');
    await new Promise((resolve) => this.server.once('exit', resolve));
  }
}

/** What is used of an event of Chromium's traces. */
interface TraceEvent {
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  /** Processor time in microseconds. */
  readonly tdur?: number;
  readonly args?: { readonly name?: string };
}

export interface OpenPage {
  readonly page: Page;
  readonly context: BrowserContext;
  readonly errors: readonly string[];
}

/** Steps that the page says it has taken. */
export async function stepsOf(page: Page): Promise<number> {
  return Number(/^\d+/.exec((await page.textContent('#progress')) ?? '')?.[0] ?? 0);
}

/** Trains at least so many steps. */
export async function trainTo(page: Page, steps: number): Promise<void> {
  if ((await page.textContent('#play')) === 'Train') await page.click('#play');
  await page.waitForFunction(
    (least) => Number(/^\d+/.exec(document.getElementById('progress')?.textContent ?? '')?.[0] ?? 0) >= least,
    steps,
  );
}

export async function pause(page: Page): Promise<void> {
  await page.click('#play');
  await page.waitForFunction(() => document.getElementById('play')?.textContent === 'Train');
  // The last picture and measurement.
  await page.waitForFunction(() => document.getElementById('main')?.ariaBusy === 'false');
}

/** Drops files or folders on the page, as a user's hand does. */
export async function dropOn(page: Page, ...files: string[]): Promise<void> {
  const protocol = await page.context().newCDPSession(page);
  const data = { items: [], files, dragOperationsMask: 1 };
  for (const type of ['dragEnter', 'dragOver', 'drop'] as const)
    await protocol.send('Input.dispatchDragEvent', { type, x: 300, y: 300, data });
  await protocol.detach();
}

/** The message that the page shows, once there is one. */
export async function messageOf(page: Page): Promise<string> {
  await page.waitForFunction(() => /\w{3}.*\.$/.test(document.getElementById('message')?.textContent ?? ''));
  return (await page.textContent('#message')) ?? '';
}

/** How many pixels of a canvas are drawn on. */
export function inkOf(page: Page, canvas: string): Promise<number> {
  return page.evaluate((id) => {
    const found = document.getElementById(id);
    if (!(found instanceof HTMLCanvasElement)) return -1;
    const { data } = found.getContext('2d')?.getImageData(0, 0, found.width, found.height) ?? { data: [] };
    let ink = 0;
    for (let i = 3; i < data.length; i += 4) if ((data[i] ?? 0) > 0) ink++;
    return ink;
  }, canvas);
}

/** The canvas as text, to see whether it changed. */
export function pictureOf(page: Page, canvas: string): Promise<string> {
  return page.evaluate((id) => {
    const found = document.getElementById(id);
    return found instanceof HTMLCanvasElement ? found.toDataURL() : '';
  }, canvas);
}

/** The values of the bars: those of the model without penalty and of the other, of Precision first. */
export async function barsOf(page: Page): Promise<number[]> {
  return (await page.locator('#bars .bar > span:last-child').allTextContents()).map(Number);
}

/** Sets a slider as a user's hand does. */
export async function slide(page: Page, id: string, value: number): Promise<void> {
  await page.locator(id).fill(String(value));
}
