import { Registry, savedClass } from '../registry.ts';
import { ConditionalDense } from './conditional-dense.ts';
import type { DiffusionModel } from './model.ts';
import { UNet2DModel } from './unet-2d/unet-2d.ts';

/** A class of models that can be built from its `config.json`. */
export interface ModelClass {
  /**
   * Builds the model of a parsed `config.json`. Keys that begin with `_` are notes of the writing library.
   *
   * @throws {ConfigError} when the config is wrong for the class.
   */
  fromConfig(json: unknown): DiffusionModel;
}

/**
 * The model classes by the `_class_name` of their config. What is registered here can be saved by a trainer and opened
 * again by `pipeline()` and the command line.
 *
 * @example
 * class TinyDiT implements DiffusionModel {
 *   static fromConfig(json: unknown) { return new TinyDiT(configOptions(json, 'TinyDiT')); }
 *   // ...
 * }
 * models.register('TinyDiT', TinyDiT);
 */
export const models = new Registry<ModelClass>('model class', { ConditionalDense, UNet2DModel });

/**
 * Builds the model that a parsed `config.json` describes; `_class_name` picks the class from `models`.
 *
 * @throws {ConfigError} when the class is not registered or the config is wrong for it.
 */
export function modelFromConfig(json: unknown): DiffusionModel {
  return savedClass(models, json).fromConfig(json);
}
