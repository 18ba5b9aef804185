import { mkdir, mkdtemp, readdir, rm, temporaryPrefix, writeFile } from '#platform/fs';
import { dirname, join } from '#platform/path';
import { errorText, FileFormatError, HubError } from '../errors.ts';
import { readJsonFile } from '../files/json.ts';
import { isFile } from '../files/regular-file.ts';
import type { Store } from '../platform/stores/store.ts';
import type { OnnxDtype } from './hub-options.ts';
import type { ModelFile } from './open-pretrained.ts';
import { autoencoderIn, modelIndexSchema, onnxFiles, pipelineFiles, weightsFile } from './pipeline-folder.ts';

/* Pipelines that are not in a folder: at a URL, in a zip file, in a store. They are put in a temporary folder and read there. */

/**
 * Where a saved pipeline may be beside a folder and the Hub: the URL of its folder, a zip file (a `File`, a `Blob` or the
 * bytes), or the root of a store.
 */
export type PipelineSource = URL | Blob | Uint8Array | ArrayBuffer | Store;

export function isPipelineSource(model: unknown): model is PipelineSource {
  return typeof model === 'object' && model !== null && (isBytes(model) || isStore(model) || model instanceof URL);
}

/** Whether a text names a pipeline on a server. */
export function isWebAddress(model: string): boolean {
  return /^https?:/.test(model);
}

const isBytes = (model: object) => model instanceof Blob || model instanceof Uint8Array || model instanceof ArrayBuffer;

const isStore = (model: object): model is Store => ['stat', 'read', 'list'].every((name) => name in model);

interface FetchOptions {
  readonly variant?: string | undefined;
  /** Which ONNX file; default 'fp32'. */
  readonly dtype?: OnnxDtype | null | undefined;
  /** Whether to take averaged weights where there are some. */
  readonly ema: boolean;
  /** The large file to fetch where there are both. */
  readonly prefer: ModelFile;
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * Calls `use` with a folder that holds the pipeline while `use` runs.
 *
 * @throws {FileFormatError} when it is a zip file that cannot be read.
 * @throws {HubError} when the server does not have the pipeline, or cannot be reached.
 */
export async function withPipelineFolder<T>(
  source: PipelineSource | string,
  options: FetchOptions,
  use: (folder: string) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(temporaryPrefix());
  try {
    if (typeof source === 'string' || source instanceof URL) await fetchPipeline(folder, String(source), options);
    else if (isStore(source)) await copyStore(source, '/', folder);
    else {
      const { unzipInto } = await import('../files/zip.ts');
      await unzipInto(folder, await bytesOf(source));
    }
    return await use(await rootOf(folder));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The folder itself, or the one folder in it: many programs zip a folder with its name. */
async function rootOf(folder: string): Promise<string> {
  const holdsPipeline = async (path: string) =>
    (await isFile(join(path, pipelineFiles.modelIndex))) || (await isFile(join(path, pipelineFiles.config)));
  if (await holdsPipeline(folder)) return folder;
  for (const name of await readdir(folder)) if (await holdsPipeline(join(folder, name))) return join(folder, name);
  throw new FileFormatError(
    `there is no saved pipeline in it: it lacks ${pipelineFiles.modelIndex}, which trainer.savePipeline writes`,
  );
}

async function bytesOf(source: PipelineSource): Promise<Uint8Array> {
  if (source instanceof Uint8Array) return source;
  return new Uint8Array(source instanceof Blob ? await source.arrayBuffer() : (source as ArrayBuffer));
}

async function copyStore(store: Store, from: string, to: string): Promise<void> {
  for (const name of await store.list(from)) {
    const [source, target] = [join(from, name), join(to, name)];
    if ((await store.stat(source))?.kind === 'folder') await copyStore(store, source, target);
    else await writeInto(target, await store.read(source));
  }
}

async function writeInto(path: string, content: Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, content);
}

/** Fetches a pipeline from a server into a folder. @throws {HubError} when there is none, or no server. */
export async function fetchPipeline(folder: string, address: string, options: FetchOptions): Promise<void> {
  const base = address.endsWith('/') ? address : `${address}/`;
  const get = async (file: string, target = file) => {
    const content = await fetchFile(new URL(file, base), options.headers);
    if (content) await writeInto(join(folder, target), content);
    return content !== undefined;
  };
  const { modelIndex, config, isotropy, schedulerConfig } = pipelineFiles;
  const [onnx, transformersOnnx] = onnxFiles(options.dtype);
  const isNested = await get(modelIndex);
  const candidates = isNested ? [...(options.ema ? ['unet_ema/'] : []), 'unet/', ''] : [''];
  let own: string | undefined;
  // Averaged weights take the place of the others, which are then not fetched.
  const place = (name: string) => `${own === 'unet_ema/' ? 'unet/' : own}${name}`;
  for (own of candidates) if (await get(own + config, place(config))) break;
  if (!(await isFile(join(folder, place(config)))))
    throw new HubError(`there is no saved pipeline at ${address}: the server has no ${modelIndex} or ${config} there`);
  await Promise.all([
    get(own + isotropy, place(isotropy)),
    get(pipelineFiles.pointScaler),
    get(`scheduler/${schedulerConfig}`).then((found) => found || get(schedulerConfig)),
  ]);
  const weights = weightsFile(options.variant);
  const autoencoder = isNested ? autoencoderIn(await readIndex(folder)) : undefined;
  if (autoencoder !== undefined)
    for (const file of [config, weights])
      if (!(await get(`${autoencoder}/${file}`)))
        throw new HubError(
          `the pipeline at ${address} lacks ${autoencoder}/${file}, which decodes what its model draws`,
        );
  const models = [() => get(own + onnx, place(onnx)), () => get(transformersOnnx)];
  const stored = () => get(own + weights, place(weights));
  for (const fetched of options.prefer === 'onnx' ? [...models, stored] : [stored, ...models])
    if (await fetched()) return;
  throw new HubError(`the pipeline at ${address} has none of ${own}${onnx}, ${transformersOnnx} and ${own}${weights}`);
}

const readIndex = (folder: string) => readJsonFile(join(folder, pipelineFiles.modelIndex), modelIndexSchema);

/** @returns undefined where the server has no such file. */
async function fetchFile(url: URL, headers: FetchOptions['headers'] = {}): Promise<Uint8Array | undefined> {
  let response: Response;
  try {
    response = await fetch(url, { headers });
  } catch (cause) {
    throw new HubError(`${url} cannot be reached: ${errorText(cause)}`, { cause, unreachable: true });
  }
  const { status } = response;
  // A page in place of a missing file, as servers of single-page applications send it.
  const isPage = response.headers.get('content-type')?.startsWith('text/html') ?? false;
  if (status === 404 || status === 403 || isPage) return undefined;
  if (!response.ok) throw new HubError(`${url}: the server answered ${status} ${response.statusText}`, { status });
  return new Uint8Array(await response.arrayBuffer());
}
