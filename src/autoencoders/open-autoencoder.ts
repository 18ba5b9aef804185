import { readdir } from '#platform/fs';
import { join, resolve } from '#platform/path';
import { FileFormatError } from '../errors.ts';
import { readJsonFile } from '../files/json.ts';
import { isFile } from '../files/regular-file.ts';
import { type PretrainedOptions, pipelineFolderOf, pretrainedShape } from '../hub/open-pretrained.ts';
import { adviceOnMissingWeights, configSchema, findWeights, pipelineFiles } from '../hub/pipeline-folder.ts';
import { readModelWeights } from '../models/weights.ts';
import { type Fields, parseOptions } from '../options.ts';
import * as z from '../zod.ts';
import type { Autoencoder } from './autoencoder.ts';
import { autoencoderFromConfig } from './registry.ts';
import { AutoencoderSession, type AutoencoderSessionOptions } from './session.ts';

/** An autoencoder and its weights by parameter name. */
export interface OpenedAutoencoder {
  /** The network, without weights. */
  readonly autoencoder: Autoencoder;
  /** Every parameter by its name in the state dict. */
  readonly weights: ReadonlyMap<string, Float32Array>;
}

/** Options of `loadAutoencoder`: how it is found, and where it runs. */
export interface LoadAutoencoderOptions extends PretrainedOptions, AutoencoderSessionOptions {}

const pretrainedSchema = z.strictObject(pretrainedShape satisfies Fields<PretrainedOptions>);

/** The folders of autoencoders in pipelines of diffusers. */
const COMPONENTS = ['vae', 'vqvae'];

/**
 * Loads an autoencoder onto a device.
 *
 * @param model a folder (`./...`, `/...`) or a Hub id `owner/name`: an autoencoder alone (`config.json` and safetensors), or
 * a pipeline that has one as `vae` or `vqvae`.
 * @throws {InvalidArgumentError} when an option is wrong or unknown.
 * @throws {FileFormatError} when the folder is incomplete or damaged, or has its weights as pickles only.
 * @throws {ConfigError} when the class of the config is not registered, or it does not fit the weights.
 * @throws {HubError} when it cannot be downloaded. @throws {DeviceError} when the device cannot be used.
 * @example
 * const session = await loadAutoencoder('./runs/autoencoder', { device: 'cpu', tiling: true });
 * const latents = await session.encode({ data: pixels, shape: [1, 3, 256, 256] });
 */
export async function loadAutoencoder(
  model: string,
  { device, device_id, tf32, tiling, batch_size, ...pretrained }: LoadAutoencoderOptions = {},
): Promise<AutoencoderSession> {
  const { autoencoder, weights } = await openAutoencoder(model, pretrained);
  return AutoencoderSession.create(autoencoder, weights, { device, device_id, tf32, tiling, batch_size });
}

/**
 * Reads an autoencoder with its weights, to be trained further or exported. Keys of attention that are those of diffusers
 * before 0.15 (`query`, `key`, `value`, `proj_attn`) are read as the present ones.
 *
 * @param model see `loadAutoencoder`.
 * @throws as `loadAutoencoder`.
 * @example
 * const { autoencoder, weights } = await openAutoencoder('stabilityai/sd-vae-ft-mse');
 */
export async function openAutoencoder(model: string, options: PretrainedOptions = {}): Promise<OpenedAutoencoder> {
  const pretrained = parseOptions(pretrainedSchema, options, 'options of an autoencoder');
  const folder = await autoencoderFolder(resolve(await pipelineFolderOf(model, pretrained)));
  const autoencoder = autoencoderFromConfig(await readJsonFile(join(folder, pipelineFiles.config), configSchema));
  const file = await findWeights(folder, options.variant);
  if (file !== undefined) return { autoencoder, weights: await readModelWeights(autoencoder, file) };
  const names = await readdir(folder);
  throw new FileFormatError(`${folder} lacks its weights: ${adviceOnMissingWeights(names, options.variant)}.`);
}

/** The folder itself, or that of the component. @throws {FileFormatError} when there is neither. */
async function autoencoderFolder(folder: string): Promise<string> {
  const candidates = (await isFile(join(folder, pipelineFiles.modelIndex)))
    ? COMPONENTS.map((name) => join(folder, name))
    : [folder];
  for (const candidate of candidates) if (await isFile(join(candidate, pipelineFiles.config))) return candidate;
  throw new FileFormatError(
    `${folder} holds no autoencoder: there is no ${candidates.map((name) => join(name, pipelineFiles.config)).join(', and no ')}`,
  );
}
