import { ConfigError } from '../errors.ts';
import { ConditionalDense } from './conditional-dense.ts';
import type { DiffusionModel } from './model.ts';
import { UNet2DModel } from './unet-2d/index.ts';

const modelClasses: ReadonlyMap<unknown, (json: unknown) => DiffusionModel> = new Map<
  unknown,
  (json: unknown) => DiffusionModel
>([
  ['ConditionalDense', ConditionalDense.fromConfig],
  ['UNet2DModel', UNet2DModel.fromConfig],
]);

/**
 * Builds the model that a parsed `config.json` describes; `_class_name` picks the class.
 *
 * @throws {ConfigError} when the class is not known or the config is wrong for it.
 */
export function modelFromConfig(json: unknown): DiffusionModel {
  const className =
    typeof json === 'object' && json !== null && '_class_name' in json ? json._class_name : undefined;
  const build = modelClasses.get(className);
  if (build) return build(json);
  throw new ConfigError(
    `model class ${JSON.stringify(className) ?? 'missing'} is not known: "_class_name" must be one of ${[...modelClasses.keys()].join(', ')}`,
  );
}
