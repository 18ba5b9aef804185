import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { ExtractorNotFoundError, ExtractorWeightsError } from '../../../src/errors.ts';
import { evaluate } from '../../../src/evaluation/evaluate.ts';
import { parameterShapes } from '../../../src/evaluation/extractors/networks/feature-network.ts';
import { inceptionV3 } from '../../../src/evaluation/extractors/networks/inception-v3.ts';
import { PUBLISHED_EXTRACTORS } from '../../../src/evaluation/extractors/published-extractors.ts';
import { type ResolveExtractorOptions, resolveExtractor } from '../../../src/evaluation/extractors/registry.ts';
import { torchFile } from '../../files/torch/write.ts';
import { expectLayer, imagesByRule, type LayerSummary, readReference, weightsByRule } from './networks/reference.ts';

// No published file can be fetched here: a local server sends weights by rule, with the published names and, at a
// sixteenth of the width, shapes. At full width (npm run test:slow) nothing but the numbers differs from the real thing.
const narrow = process.env.MODE === 'slow' ? 1 : 16;
const FILE = 'pt_inception-2015-12-05-6726825d.pth';
const published = { ...PUBLISHED_EXTRACTORS.inception };
const reference = readReference(`inception-${narrow}`);
const images = imagesByRule(reference.images);

let server: Server;
let weights: Uint8Array;
let sent: Uint8Array;
let requests: { url: string | undefined; range: string | undefined }[];
let root: string;
let folder: string;

beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'fetch-extractor-'));
  const network = inceptionV3({ narrow });
  const tensors = [...parameterShapes(network)].map(([name, shape]) => {
    return [name, { shape, data: weightsByRule(name, shape) }] as const;
  });
  weights = torchFile(new Map(tensors), 'legacy');
  server = createServer((request, response) => {
    const { range } = request.headers;
    requests.push({ url: request.url, range });
    const begin = Number(/bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0);
    response.writeHead(range ? 206 : 200, { 'content-range': `bytes ${begin}-` });
    // The first answer breaks off half way.
    if (requests.length === 1 && sent === weights) response.write(sent.subarray(0, 100_000), () => response.destroy());
    else response.end(sent.subarray(begin));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/weights/${FILE}`;
  const sha256 = createHash('sha256').update(weights).digest('hex');
  Object.assign(PUBLISHED_EXTRACTORS.inception, { network, url, sha256, bytes: weights.length });
}, 300_000);
afterAll(async () => {
  Object.assign(PUBLISHED_EXTRACTORS.inception, published);
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await rm(root, { recursive: true, force: true });
});
beforeEach(async () => {
  folder = await mkdtemp(path.join(root, 'extractors-'));
  sent = weights;
  requests = [];
});
afterEach(() => vi.unstubAllEnvs());

async function features(options: ResolveExtractorOptions = {}): Promise<Float32Array> {
  const extractor = await resolveExtractor('inception', { extractors_dir: folder, ...options });
  try {
    return await extractor.extract(images);
  } finally {
    await extractor.dispose();
  }
}

describe('the published weights', () => {
  it('are fetched, checked, converted and kept, with progress and after a cut connection', async () => {
    const progress: (number | undefined)[] = [];
    const steps: string[] = [];
    const first = await features({
      progress_callback: ({ status, name, file, progress: percent }) => {
        expect([name, file]).toEqual(['inception', FILE]);
        if (status === 'progress') progress.push(percent);
        else steps.push(status);
      },
    });
    const layer = reference.layers['2048'] as LayerSummary;
    expectLayer('2048', first, [2, 2048 / narrow], layer, 1e-4);
    expect(requests).toEqual([
      { url: `/weights/${FILE}`, range: undefined },
      { url: `/weights/${FILE}`, range: expect.stringMatching(/^bytes=\d+-$/) },
    ]);
    expect([steps, progress.at(-1)]).toEqual([['initiate', 'done'], 100]);
    expect(await readdir(folder)).toEqual(['inception.onnx']);
    expect(await features({ local_files_only: true })).toEqual(first);
    expect(requests).toHaveLength(2);
  }, 300_000);

  it.each([FILE, 'weights-inception-2015-12-05-6726825d.pth'])(
    'are taken from the folder, and stay there: %s',
    async (name) => {
      await writeFile(path.join(folder, name), weights);
      await features();
      expect((await readdir(folder)).sort()).toEqual(['inception.onnx', name].sort());
      expect(requests).toEqual([]);
    },
    300_000,
  );

  it('come from a mirror', async () => {
    const mirror = PUBLISHED_EXTRACTORS.inception.url.replace(`weights/${FILE}`, 'copy/');
    vi.stubEnv('ISO_DIFFUSION_EXTRACTORS_MIRROR', mirror);
    await features();
    expect(requests[0]?.url).toBe(`/copy/${FILE}`);
  }, 300_000);

  it('are fetched by evaluate, whose report has their checksum', async () => {
    vi.stubEnv('ISO_DIFFUSION_EXTRACTORS', folder);
    const set = path.join(root, 'photos');
    await mkdir(set, { recursive: true });
    for (const [i, { data, height, width }] of images.entries()) {
      const header = Buffer.from(`P6 ${width} ${height} 255\n`);
      await writeFile(path.join(set, `${i}.ppm`), Buffer.concat([header, data]));
    }
    const stages = new Set<string>();
    const { metrics, extractor } = await evaluate({
      real: set,
      fake: set,
      metrics: ['fid'],
      device: 'cpu',
      cache_dir: path.join(root, 'cache'),
      on_progress: (_, stage) => void stages.add(stage),
    });
    expect(metrics.fid).toBeCloseTo(0, 4);
    const model = await readFile(path.join(folder, 'inception.onnx'));
    expect(extractor.checksum).toBe(createHash('sha256').update(model).digest('hex'));
    expect([...stages]).toEqual(['weights', 'real', 'fake', 'fid']);
  }, 300_000);
});

describe('what is refused', () => {
  const failure = async (options?: ResolveExtractorOptions) => features(options).catch((error: unknown) => error);

  it('other weights than the published ones, from the server and in the folder', async () => {
    sent = Uint8Array.from(weights);
    sent[sent.length - 1] = 1;
    const downloaded = await failure();
    expect(downloaded).toBeInstanceOf(ExtractorNotFoundError);
    expect(String(downloaded)).toMatch(/the content has the sha256 [0-9a-f]{64}, but [0-9a-f]{64} is published/);
    expect(await readdir(folder)).toEqual([]);
    await writeFile(path.join(folder, FILE), sent);
    const found = await failure();
    expect(found).toBeInstanceOf(ExtractorWeightsError);
    expect(String(found)).toMatch(/has the SHA-256 [0-9a-f]{64}.*convert-extractor to use other weights/);
    expect(await readdir(folder)).toEqual([FILE]);
  });

  it.each([
    ['the option', { local_files_only: true }, '', /local_files_only is set/],
    ['the variable', {}, '1', /HF_HUB_OFFLINE is set/],
  ])('a download that %s forbids, with the file and its place', async (_, options, variable, reason) => {
    vi.stubEnv('HF_HUB_OFFLINE', variable);
    const error = await failure(options);
    expect(error).toBeInstanceOf(ExtractorNotFoundError);
    expect(String(error)).toMatch(reason);
    expect(String(error)).toContain(`put it at ${path.join(folder, FILE)}`);
    expect(requests).toEqual([]);
  });
});
