import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { extract } from 'tar-stream';
import { FileFormatError } from '../../src/errors.ts';
import { NSFWJS_EXTRACTOR } from '../../src/evaluation/extractors/published-extractors.ts';
import { Graph } from '../../src/graph/graph.ts';
import { add, mul } from '../../src/graph/ops/index.ts';
import { scalarLike } from '../../src/graph/registry.ts';
import { buildLayers } from './build.ts';
import { topology } from './topology.ts';
import { decodeWeights, weightsManifest } from './weights.ts';

const PACKAGE = 'nsfwjs@4.3.0';
/** As the npm registry lists it. The content is known by it, so that its modules may be loaded. */
const INTEGRITY = 'sha512-WTKDte0vp1X97N1h34P79G/hG+sVT3+TnDz9di1WseIJR93v11E4viNX7Vg9WsO6HYoR772Nzq2iM8jo3XBZ+g==';
const FOLDER = 'package/dist/models/inception_v3/';

/** The Inception v3 of the npm package nsfwjs (MIT), as the package keeps it. */
export interface NsfwjsModel {
  readonly modelTopology: unknown;
  readonly weightsManifest: unknown;
  readonly weightData: Uint8Array;
}

/**
 * @param tarball nsfwjs-4.3.0.tgz; default: fetched by `npm pack`, 25 MB.
 * @throws {FileFormatError} when it is another file.
 */
export async function readNsfwjsInception(tarball?: string): Promise<NsfwjsModel> {
  const folder = await mkdtemp(path.join(tmpdir(), 'nsfwjs-'));
  try {
    const file = tarball ?? (await npmPack(folder));
    const digest = `sha512-${createHash('sha512')
      .update(await readFile(file))
      .digest('base64')}`;
    if (digest !== INTEGRITY) throw new FileFormatError(`${file} is not ${PACKAGE}: it has the digest ${digest}`);
    const names = await unpackModel(file, folder);
    const load = createRequire(path.join(folder, 'x.cjs'));
    const model = load('./model.cjs') as Pick<NsfwjsModel, 'modelTopology' | 'weightsManifest'>;
    const shards = names.filter((name) => name.includes('shard')).sort();
    const parts = shards.map((name) => Buffer.from(load(`./${name}`) as string, 'base64'));
    return { ...model, weightData: new Uint8Array(Buffer.concat(parts)) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function npmPack(folder: string): Promise<string> {
  const arguments_ = ['pack', PACKAGE, '--pack-destination', folder, '--silent'];
  const child = spawn('npm', arguments_, {
    stdio: ['ignore', 'ignore', 'inherit'],
    shell: process.platform === 'win32',
  });
  const status = await new Promise((resolve, reject) => child.on('close', resolve).on('error', reject));
  if (status !== 0)
    throw new FileFormatError(
      `npm pack ${PACKAGE} failed with status ${status}: check the network, or give the file as --tarball`,
    );
  return path.join(folder, `${PACKAGE.replace('@', '-')}.tgz`);
}

/** Writes the model's modules into `folder` as .cjs, and returns their names. */
async function unpackModel(tarball: string, folder: string): Promise<string[]> {
  const names: string[] = [];
  const archive = extract();
  const feeding = pipeline(createReadStream(tarball), createGunzip(), archive);
  for await (const entry of archive) {
    const { name } = entry.header;
    const [, stem] = /^([\w-]+)\.min\.js$/.exec(name.slice(FOLDER.length)) ?? [];
    if (!name.startsWith(FOLDER) || stem === undefined) {
      entry.resume();
      continue;
    }
    names.push(`${stem}.cjs`);
    await pipeline(entry, createWriteStream(path.join(folder, `${stem}.cjs`)));
  }
  await feeding;
  return names;
}

/** The model as a graph: input `images` float32 ['batch_size', 3, 299, 299], RGB in [-1, 1]. */
export function nsfwjsGraph(model: NsfwjsModel): Graph {
  const layers = topology.parse(model.modelTopology);
  const weights = decodeWeights(weightsManifest.parse(model.weightsManifest), model.weightData);
  const graph = new Graph(NSFWJS_EXTRACTOR);
  const images = graph.input('images', 'float32', ['batch_size', 3, 299, 299]);
  // nsfwjs divides pixels by 255.
  const half = scalarLike(images, 0.5);
  const values = buildLayers(layers, weights, add(mul(images, half), half));
  const [[last]] = layers.output_layers as [[string, 0, 0]];
  const outputs = { '2048': 'flatten_1', logits: `${last}/logits`, probabilities: last };
  for (const [name, layer] of Object.entries(outputs)) {
    const value = values.get(layer);
    if (!value) throw new Error(`the model has no layer ${layer}`);
    graph.output(name, value);
  }
  return graph;
}
