import path from 'node:path';
import { ConfigError } from '../errors.ts';
import { currentParameterName } from '../models/unet-2d/legacy-keys.ts';
import { readSafetensors } from './safetensors.ts';

/**
 * The parameters of a model from its safetensors file, under their present names.
 *
 * @throws {SafetensorsError} when the file is missing, truncated or malformed.
 * @throws {ConfigError} when a tensor is not float32.
 */
export async function readModelWeights(file: string): Promise<Map<string, Float32Array>> {
  const weights = new Map<string, Float32Array>();
  for (const [name, { data, dtype }] of await readSafetensors(file)) {
    if (!(data instanceof Float32Array))
      throw new ConfigError(`${path.basename(file)}: '${name}' is ${dtype}, not float32`);
    weights.set(currentParameterName(name), data);
  }
  return weights;
}
