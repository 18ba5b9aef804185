import { mkdir } from '#platform/fs';
import { join } from '#platform/path';
import { type FileContent, syncDirectory, writeDirectoryAtomic, writeFileSynced } from '../files/atomic.ts';
import { float32Tensor, type WeightsDtype } from '../files/float-tensors.ts';
import { stringifySorted } from '../files/json.ts';
import { type NamedTensor, safetensorsChunks } from '../files/safetensors.ts';
import { writeOnnx } from '../graph/onnx/write.ts';
import { checkReplaceable, DIFFUSERS_VERSION, pipelineFiles, weightsFile } from '../hub/pipeline-folder.ts';
import { requireWeights } from '../models/model.ts';
import { refuseNonFiniteWeights } from '../models/weights.ts';
import type { Autoencoder } from './autoencoder.ts';
import { exportDecoderGraph, exportEncoderGraph } from './export.ts';

/** How an autoencoder is saved. */
export interface SaveAutoencoderOptions {
  /** The type of the safetensors: 'fp32' (default), or rounded to the nearest 'fp16' or 'bf16', half as large. */
  readonly dtype?: WeightsDtype | undefined;
  /** Marks the safetensors, as diffusers does: 'fp16' writes `diffusion_pytorch_model.fp16.safetensors`. Default none. */
  readonly variant?: string | undefined;
}

/** The ONNX files of an autoencoder, of images of its `sampleSize`. */
export const autoencoderOnnxFiles = { encoder: 'encoder_model.onnx', decoder: 'decoder_model.onnx' } as const;

/**
 * Saves an autoencoder as a folder that `loadAutoencoder`, and for classes that diffusers knows also diffusers, can open:
 * `config.json`, `diffusion_pytorch_model.safetensors`, `encoder_model.onnx` and `decoder_model.onnx`. The folder appears
 * whole or not at all. An existing folder is replaced only if it is empty or holds a `config.json`.
 *
 * @param weights every parameter by name, row-major.
 * @throws {InvalidArgumentError} when `folder` holds something else, `weights` are not those of the autoencoder, one is too
 * large for `dtype`, or `variant` is not a plain word.
 * @throws {NonFiniteWeightsError} when a weight is NaN or infinite.
 * @example
 * await saveAutoencoder('./autoencoder', autoencoder, initialParameters(autoencoder, 0));
 */
export async function saveAutoencoder(
  folder: string,
  autoencoder: Autoencoder,
  weights: ReadonlyMap<string, Float32Array>,
  options: SaveAutoencoderOptions = {},
): Promise<void> {
  const files = autoencoderFiles(autoencoder, weights, options);
  await checkReplaceable(folder, pipelineFiles.config);
  await writeDirectoryAtomic(folder, async (temporary) => {
    await mkdir(temporary, { recursive: true });
    for (const [name, content] of files)
      await writeFileSynced(join(temporary, name), typeof content === 'function' ? content() : content);
    await syncDirectory(temporary);
  });
}

/**
 * The files of a saved autoencoder by name; a large one is made when its function is called.
 *
 * @throws as `saveAutoencoder`, before anything is made.
 */
export function autoencoderFiles(
  autoencoder: Autoencoder,
  weights: ReadonlyMap<string, Float32Array>,
  { dtype = 'fp32', variant }: SaveAutoencoderOptions = {},
): Map<string, FileContent | (() => Uint8Array)> {
  requireWeights(autoencoder, weights);
  refuseNonFiniteWeights(weights);
  const tensors = autoencoder.parameters.map(({ name, shape }): [string, NamedTensor] => [
    name,
    float32Tensor(name, shape, weights.get(name) ?? new Float32Array(), dtype),
  ]);
  const config = { _diffusers_version: DIFFUSERS_VERSION, ...autoencoder.config };
  return new Map<string, FileContent | (() => Uint8Array)>([
    [pipelineFiles.config, stringifySorted(config)],
    [weightsFile(variant), safetensorsChunks(new Map(tensors), { format: 'pt' })],
    [autoencoderOnnxFiles.encoder, () => writeOnnx(exportEncoderGraph(autoencoder, weights))],
    [autoencoderOnnxFiles.decoder, () => writeOnnx(exportDecoderGraph(autoencoder, weights))],
  ]);
}
