import { download } from '#files/download';
import { rm } from '#platform/fs';
import * as path from '#platform/path';
import { environmentVariable } from '#platform/system';
import { ExtractorNotFoundError, ExtractorWeightsError } from '../../errors.ts';
import { fileDigest, isFile } from '../../files/regular-file.ts';
import { offlineReason } from '../../hub/environment.ts';
import type { HubOptions } from '../../hub/hub-options.ts';
import { convertExtractor } from './convert-extractor.ts';
import { PUBLISHED_EXTRACTORS, type PublishedExtractor, type PublishedExtractorName } from './published-extractors.ts';

type FetchOptions = Pick<HubOptions, 'local_files_only' | 'progress_callback' | 'fetch' | 'signal'>;

/**
 * The file of a published extractor's model: the ONNX file or the safetensors in the folder. Where there is neither, the
 * published weights are taken from the folder, or downloaded into it, checked by their SHA-256, and converted once.
 *
 * @throws {ExtractorNotFoundError} when they are not there and may not or cannot be downloaded. It says what to fetch from
 * where, and where to put it.
 * @throws {ExtractorWeightsError} when the weights in the folder are not the published ones.
 */
export async function fetchPublishedExtractor(
  name: PublishedExtractorName,
  folder: string,
  options: FetchOptions,
): Promise<string> {
  const published = PUBLISHED_EXTRACTORS[name];
  const onnx = path.join(folder, `${name}.onnx`);
  const names = [publishedName(published), ...published.aliases];
  const models = [onnx, ...names.map((base) => path.join(folder, `${base}.safetensors`))];
  for (const model of models) if (await isFile(model)) return model;
  for (const base of names) {
    const weights = path.join(folder, `${base}.pth`);
    if (!(await isFile(weights))) continue;
    await requireChecksum(weights, published);
    await convertExtractor(weights, onnx);
    return onnx;
  }
  const weights = path.join(folder, `${publishedName(published)}.pth`);
  await downloadWeights(name, published, weights, options);
  await convertExtractor(weights, onnx);
  await rm(weights);
  return onnx;
}

/** The name that the weights are published under, without its ending. */
function publishedName({ url }: PublishedExtractor): string {
  return path.posix.parse(new URL(url).pathname).name;
}

/** A user may have put anything into the folder. */
async function requireChecksum(weights: string, { sha256, url }: PublishedExtractor): Promise<void> {
  const found = await fileDigest([weights]);
  if (found === sha256) return;
  throw new ExtractorWeightsError(
    `${weights} has the SHA-256 ${found}, but that of ${url} is ${sha256}: fetch it again, or run iso-diffusion convert-extractor to use other weights`,
  );
}

async function downloadWeights(
  name: PublishedExtractorName,
  published: PublishedExtractor,
  target: string,
  { local_files_only, progress_callback, fetch, signal }: FetchOptions,
): Promise<void> {
  const mirror = environmentVariable('ISO_DIFFUSION_EXTRACTORS_MIRROR')?.replace(/\/+$/, '');
  const file = path.basename(target);
  const url = mirror ? `${mirror}/${file}` : published.url;
  const { bytes: size, sha256 } = published;
  const fail = (message: string, cause?: ErrorOptions) =>
    new ExtractorNotFoundError(
      `${message}. Or fetch ${published.url} by other means and put it at ${target}, or set ISO_DIFFUSION_EXTRACTORS to the folder that holds it, or ISO_DIFFUSION_EXTRACTORS_MIRROR to the address of a copy's folder. 'raw-pixels' needs no weights.`,
      cause,
    );
  const forbidden = local_files_only ? 'local_files_only is set' : offlineReason();
  if (forbidden)
    throw fail(`there are no weights of the extractor '${name}' in ${path.dirname(target)}, and ${forbidden}`);
  const report = (loaded: number) =>
    progress_callback?.({ status: 'progress', name, file, loaded, total: size, progress: (100 * loaded) / size });
  progress_callback?.({ status: 'initiate', name, file });
  await download({ url, size, digest: { kind: 'sha256', hex: sha256 } }, target, {
    fail,
    fetch,
    signal,
    onProgress: report,
  });
  progress_callback?.({ status: 'done', name, file });
}
