import type { IncomingMessage } from 'node:http';

/** The part of the local Hub that takes uploads as the Hub does: create, preupload, LFS batch and storage, commit as NDJSON. */
export class MockUploads {
  /** Repositories of models to which may be uploaded. */
  readonly repository = 'me/roll';
  /** Every upload needs it as bearer. */
  readonly token = 'hf_write';
  readonly committed = new Map<string, Buffer>();
  /** The bodies of requests to create a repository. */
  readonly created: unknown[] = [];
  readonly stored = new Map<string, Buffer>();
  repositoryExists = false;
  /** Whether weights go to Git LFS, as the Hub wants it of files of this kind. */
  weightsInLfs = false;

  /** The answer, undefined where it is no upload. */
  async reply(request: IncomingMessage, endpoint: string): Promise<{ status: number; body: unknown } | undefined> {
    const { method, url = '', headers } = request;
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const whole = Buffer.concat(chunks);
    const json = (status: number, body: unknown) => ({ status, body });
    if (method === 'PUT' && url.startsWith('/storage/')) {
      this.stored.set(url.slice('/storage/'.length), whole);
      return json(200, {});
    }
    const isUpload = method === 'POST' || url === '/api/whoami-v2';
    if (!isUpload) return undefined;
    if (headers.authorization !== `Bearer ${this.token}`) return json(403, { error: 'no write access' });
    if (url === '/api/whoami-v2') return json(200, { type: 'user', id: '1', name: 'me', orgs: [], auth: {} });
    const body = whole.toString();
    if (url === '/api/repos/create') {
      this.created.push(JSON.parse(body));
      const answer = { url: `${endpoint}/${this.repository}`, error: 'exists' };
      return json(this.repositoryExists ? 409 : 200, answer);
    }
    if (url === `/api/models/${this.repository}/preupload/main`) {
      const { files } = JSON.parse(body) as { files: { path: string }[] };
      return json(200, { files: files.map(({ path }) => ({ path, uploadMode: this.modeOf(path) })) });
    }
    if (url === `/${this.repository}.git/info/lfs/objects/batch`) {
      const { objects } = JSON.parse(body) as { objects: { oid: string; size: number }[] };
      const actions = (oid: string) => ({ upload: { href: `${endpoint}/storage/${oid}` } });
      return json(200, {
        transfer: 'basic',
        objects: objects.map((object) => ({ ...object, actions: actions(object.oid) })),
      });
    }
    if (url !== `/api/models/${this.repository}/commit/main`) return json(404, { error: url });
    for (const line of body.split('\n')) {
      const { key, value } = JSON.parse(line);
      if (key === 'file') this.committed.set(value.path, Buffer.from(value.content, value.encoding));
      if (key === 'lfsFile') this.committed.set(value.path, this.stored.get(value.oid) ?? Buffer.alloc(0));
    }
    return json(200, { commitOid: '0'.repeat(40), commitUrl: endpoint, success: true });
  }

  private modeOf(file: string): 'lfs' | 'regular' {
    return this.weightsInLfs && /\.(safetensors|onnx)$/.test(file) ? 'lfs' : 'regular';
  }
}
