import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** How the server misbehaves; each fault is used up by one download. */
export type Fault =
  | 'cut'
  | 'truncate'
  | 'status-500'
  | 'ignore-range'
  | 'damage'
  | 'too-long'
  /** Answers a range with bytes from elsewhere. */
  | 'wrong-range'
  /** Sends other bytes under another ETag and breaks off. */
  | 'cut-stale';

/** A small server that plays the Hub: model info, file tree, and downloads by way of a redirect. */
export class MockHub {
  readonly commit = '0123456789abcdef0123456789abcdef01234567';
  readonly files = new Map<string, Buffer>();
  /** Files listed as large, with their SHA-256. */
  readonly lfs = new Set<string>();
  readonly faults: Fault[] = [];
  readonly requests: {
    path: string;
    range: string | undefined;
    ifRange: string | undefined;
    authorization: string | undefined;
  }[] = [];
  /** When set, every request needs it as bearer. */
  token: string | undefined;
  /** The server that downloads are redirected to; default this one. */
  storage = '';
  private server: Server | undefined;
  endpoint = '';

  async start(): Promise<void> {
    this.server = createServer((request, response) => this.answer(request, response));
    await new Promise<void>((resolve) => this.server?.listen(0, '127.0.0.1', resolve));
    this.endpoint = `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.server?.closeAllConnections();
    await new Promise((resolve) => this.server?.close(resolve));
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', this.endpoint);
    const { range, authorization } = request.headers;
    const ifRange = request.headers['if-range']?.toString();
    this.requests.push({ path: url.pathname, range, ifRange, authorization });
    const { status, body } = this.reply(url, { range, ifRange }, authorization, response) ?? {};
    if (status === undefined) return;
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body));
  }

  /** The JSON to answer with, or undefined where the response is sent already. */
  private reply(
    url: URL,
    part: { range: string | undefined; ifRange: string | undefined },
    authorization: string | undefined,
    response: ServerResponse,
  ): { status: number; body: unknown } | undefined {
    const json = (status: number, body: unknown) => ({ status, body });
    if (this.token && authorization !== `Bearer ${this.token}` && !url.pathname.startsWith('/cdn/'))
      return json(401, { error: 'Invalid credentials' });
    const api = /^\/api\/models\/owner\/model\/(revision|tree)\/([^/]+)$/.exec(url.pathname);
    if (api?.[1] === 'revision' && ['main', this.commit].includes(api[2] ?? ''))
      return json(200, {
        _id: 'x',
        id: 'owner/model',
        sha: this.commit,
        private: false,
        gated: false,
        likes: 0,
        downloads: 0,
        lastModified: '2026-01-01T00:00:00.000Z',
      });
    if (api?.[1] === 'tree' && api[2] === this.commit)
      return json(
        200,
        [...this.files].map(([path, content]) => this.entry(path, content)),
      );
    const resolve = `/owner/model/resolve/${this.commit}/`;
    if (url.pathname.startsWith(resolve)) {
      const path = decodeURIComponent(url.pathname.slice(resolve.length));
      if (this.files.has(path)) {
        response.writeHead(302, { location: `${this.storage}/cdn/${encodeURIComponent(path)}` });
        response.end();
        return undefined;
      }
    }
    if (url.pathname.startsWith('/cdn/')) {
      this.send(decodeURIComponent(url.pathname.slice(5)), part, response);
      return undefined;
    }
    return json(404, { error: 'Repository not found' });
  }

  private entry(path: string, content: Buffer) {
    const oid = createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex');
    const sha256 = createHash('sha256').update(content).digest('hex');
    const lfs = this.lfs.has(path) ? { lfs: { oid: sha256, size: content.length, pointerSize: 134 } } : {};
    return { type: 'file', path, size: content.length, oid, ...lfs };
  }

  private send(
    path: string,
    { range, ifRange }: { range: string | undefined; ifRange: string | undefined },
    response: ServerResponse,
  ): void {
    const whole = this.files.get(path) ?? Buffer.alloc(0);
    const fault = this.faults.shift();
    if (fault === 'status-500') {
      response.writeHead(500).end();
      return;
    }
    const etag = fault === 'cut-stale' ? '"stale"' : '"fresh"';
    const partial = range !== undefined && fault !== 'ignore-range' && (ifRange ?? etag) === etag;
    const start = partial ? Number(/bytes=(\d+)-/.exec(range)?.[1]) : 0;
    let body = Buffer.from(whole.subarray(fault === 'wrong-range' ? start + 1 : start));
    if (fault === 'damage') body[0] = (body[0] ?? 0) ^ 1;
    if (fault === 'too-long') body = Buffer.concat([body, Buffer.from('more')]);
    if (fault === 'cut-stale') body.fill(0x78);
    const half = body.subarray(0, Math.ceil(body.length / 2));
    if (fault === 'truncate') body = half;
    const begin = fault === 'wrong-range' ? start + 1 : start;
    response.writeHead(partial ? 206 : 200, {
      'content-length': body.length,
      etag,
      ...(partial ? { 'content-range': `bytes ${begin}-${whole.length - 1}/${whole.length}` } : {}),
    });
    if (fault === 'cut' || fault === 'cut-stale') response.write(half, () => response.destroy());
    else response.end(body);
  }
}
