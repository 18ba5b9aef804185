import { Registry, savedClass } from '../registry.ts';
import type { Autoencoder } from './autoencoder.ts';
import { AutoencoderKL } from './autoencoder-kl.ts';
import { VQModel } from './vq-model.ts';

/** A class of autoencoders that can be built from its `config.json`. */
export interface AutoencoderClass {
  /**
   * Builds the autoencoder of a parsed `config.json`. Keys that begin with `_` are notes of the writing library.
   *
   * @throws {ConfigError} when the config is wrong for the class.
   */
  fromConfig(json: unknown): Autoencoder;
}

/**
 * The classes of autoencoders by the `_class_name` of their config. What is registered here can be trained, saved, and
 * opened again.
 *
 * @example
 * class TinyAutoencoder implements KlAutoencoder {
 *   static fromConfig(json: unknown) { return new TinyAutoencoder(configOptions(json, 'TinyAutoencoder')); }
 *   // ...
 * }
 * autoencoders.register('TinyAutoencoder', TinyAutoencoder);
 */
export const autoencoders = new Registry<AutoencoderClass>('autoencoder class', { AutoencoderKL, VQModel });

/**
 * Builds the autoencoder that a parsed `config.json` describes; `_class_name` picks the class from `autoencoders`.
 *
 * @throws {ConfigError} when the class is not registered or the config is wrong for it.
 */
export function autoencoderFromConfig(json: unknown): Autoencoder {
  return savedClass(autoencoders, json).fromConfig(json);
}
