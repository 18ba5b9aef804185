import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer, type Server, type ServerResponse } from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { InvalidArgumentError } from '../../errors.ts';
import { packageFile, resolveDependency } from '../../files/package-files.ts';
import * as z from '../../zod.ts';
import { addOptions, option, readSettings, type Settings } from '../options/command-options.ts';

const options = {
  port: option(
    '--port <number>',
    z._default(z.int().check(z.gte(0), z.lte(65_535)), 4747),
    'port of the page on this machine; 0 takes any that is free',
  ),
  open: option('--no-open', z.boolean(), 'do not open the page in the browser'),
};

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
  '.gz': 'application/octet-stream',
};
/** Only this machine can reach the page. */
const HOST = '127.0.0.1';

export function definePlay(command: Command): void {
  command.addHelpText(
    'after',
    `
The page trains two models in the browser, one with the penalty and one without, and shows what λ does to the points.
Nothing leaves this machine. Ctrl-C ends the server; the page then still works, from the cache of the browser.

Examples:
  iso-diffusion play
  iso-diffusion play --no-open --port 8080`,
  );
  addOptions(command, options).action(async (flags) => play(await readSettings(options, flags)));
}

async function play({ port, open }: Settings<typeof options>): Promise<void> {
  const folder = fileURLToPath(packageFile('dist/site/'));
  if (!existsSync(path.join(folder, 'index.html')))
    throw new InvalidArgumentError(
      `there is no page in ${folder}: in a checkout of the sources run npm run build first`,
    );
  const server = createServer((request, response) => void answer(folder, request.url ?? '/', response));
  const url = `http://${HOST}:${await listen(server, port)}/`;
  console.log(`${url} shows the page. Ctrl-C ends it.`);
  if (open) openInBrowser(url);
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
  });
  server.close();
  server.closeAllConnections();
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) =>
      reject(
        new InvalidArgumentError(
          cause.code === 'EADDRINUSE'
            ? `port ${port} is in use, perhaps by another 'iso-diffusion play': give another one with --port, or 0 for any`
            : `port ${port} cannot be opened: ${cause.message}`,
          { cause },
        ),
      ),
    );
    server.listen(port, HOST, () => {
      const address = server.address();
      resolve(typeof address === 'object' && address ? address.port : port);
    });
  });
}

/** Only plain names of files are answered: the page has no folders. */
async function answer(folder: string, url: string, response: ServerResponse): Promise<void> {
  const name = /^\/([\w.-]*)(?:\?.*)?$/.exec(url)?.[1];
  const file = name === undefined ? undefined : fileOf(folder, name === '' ? 'index.html' : name);
  const content = file && (await readFile(file).catch(() => undefined));
  if (!file || !content) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, {
    'Content-Type': TYPES[path.extname(file)] ?? 'application/octet-stream',
    'Cache-Control': 'no-cache',
  });
  response.end(content);
}

/** onnxruntime-web lies beside this package already. */
function fileOf(folder: string, name: string): string {
  if (!/^ort-wasm[\w.-]*\.wasm$/.test(name)) return path.join(folder, name);
  return path.join(path.dirname(resolveDependency('onnxruntime-web')), name);
}

/** Where there is no browser to open, the printed address remains. */
function openInBrowser(url: string): void {
  const [command, args] =
    process.platform === 'darwin'
      ? ['open', [url]]
      : process.platform === 'win32'
        ? ['cmd', ['/c', 'start', '', url]]
        : ['xdg-open', [url]];
  const child = spawn(command, args, { stdio: 'ignore', detached: true });
  child.on('error', () => undefined);
  child.unref();
}
