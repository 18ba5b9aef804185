import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { MockUploads } from './mock-uploads.ts';

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

/**
 * A small server that plays the Hub: info of models and data sets, their files, downloads by way of a redirect, and uploads.
 */
export class MockHub {
  readonly commit = '0123456789abcdef0123456789abcdef01234567';
  /** Of the model `owner/model`. */
  readonly files = new Map<string, Buffer>();
  /** The files of a data set at a revision, under `owner/set@main`. */
  readonly datasets = new Map<string, ReadonlyMap<string, Buffer>>();
  readonly uploads = new MockUploads();
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
    this.server = createServer((request, response) => void this.answer(request, response));
    await new Promise<void>((resolve) => this.server?.listen(0, '127.0.0.1', resolve));
    this.endpoint = `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.server?.closeAllConnections();
    await new Promise((resolve) => this.server?.close(resolve));
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.endpoint);
    const { range, authorization } = request.headers;
    const ifRange = request.headers['if-range']?.toString();
    this.requests.push({ path: url.pathname, range, ifRange, authorization });
    const { status, body } =
      (await this.uploads.reply(request, this.endpoint)) ??
      this.reply(url, { range, ifRange }, authorization, response) ??
      {};
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
    const api = /^\/api\/(models|datasets)\/(\w+\/\w+)\/(revision|tree)\/([^/]+)$/.exec(url.pathname);
    const [, kind, id = '', what, revision = ''] = api ?? [];
    const asked = this.filesOf(kind, id, decodeURIComponent(revision));
    if (asked && what === 'revision')
      return json(200, {
        ...{ _id: 'x', id, sha: asked.commit, private: false, gated: false, likes: 0, downloads: 0 },
        lastModified: '2026-01-01T00:00:00.000Z',
      });
    if (asked && what === 'tree')
      return json(
        200,
        [...asked.files].map(([path, content]) => this.entry(path, content)),
      );
    const [, dataset, name = '', commit = '', file = ''] =
      /^\/(datasets\/)?(\w+\/\w+)\/resolve\/([^/]+)\/(.+)$/.exec(url.pathname) ?? [];
    const path = decodeURIComponent(file);
    const found = this.filesOf(dataset ? 'datasets' : 'models', name, commit);
    if (found?.files.has(path)) {
      const inStorage = dataset ? `${found.commit}/${path}` : path;
      response.writeHead(302, { location: `${this.storage}/cdn/${encodeURIComponent(inStorage)}` });
      response.end();
      return undefined;
    }
    if (url.pathname.startsWith('/cdn/')) {
      this.send(decodeURIComponent(url.pathname.slice(5)), part, response);
      return undefined;
    }
    return json(404, { error: 'Repository not found' });
  }

  /** The files of a repository at a branch or commit, which for a data set is the digest of its key. */
  private filesOf(kind: string | undefined, id: string, revision: string) {
    if (kind === 'models')
      return id === 'owner/model' && ['main', this.commit].includes(revision)
        ? { commit: this.commit, files: this.files }
        : undefined;
    for (const [key, files] of this.datasets) {
      const commit = createHash('sha1').update(key).digest('hex');
      const [name, branch] = key.split('@');
      if (name === id && [branch, commit].includes(revision)) return { commit, files };
    }
    return undefined;
  }

  /** A file in the storage: `<path>` of the model, `<commit>/<path>` of a data set. */
  private stored(place: string): Buffer | undefined {
    const [commit = '', ...path] = place.split('/');
    for (const key of this.datasets.keys())
      if (createHash('sha1').update(key).digest('hex') === commit) return this.datasets.get(key)?.get(path.join('/'));
    return this.files.get(place);
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
    const whole = this.stored(path) ?? Buffer.alloc(0);
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
