import { ConfigError, InvalidArgumentError } from '../errors.ts';
import { nearestName, Registry } from '../registry.ts';
import { hybridLoss } from './hybrid.ts';
import { isoLoss } from './iso.ts';
import type { DiffusionLoss } from './loss.ts';
import { huberLoss, l1Loss } from './robust.ts';
import { simpleLoss } from './simple.ts';
import { minSnrLoss, p2Loss, snrLoss } from './weighted.ts';

/**
 * Makes a loss from the options of its config, those beside `name`: numbers and words as they are in JSON, and `base`
 * as a loss. It throws an `InvalidArgumentError` for options that it does not take.
 */
export type LossFactory = (options: LossFactoryOptions) => DiffusionLoss;

/** The options of a loss as its config has them. */
export interface LossFactoryOptions {
  /** The loss that a config names under `base`; default none. */
  readonly base?: DiffusionLoss | undefined;
  readonly [option: string]: unknown;
}

/**
 * The losses that a config and `--loss` can name.
 *
 * @example
 * losses.register('cauchy', () => cauchyLoss());
 */
export const losses = new Registry<LossFactory>('loss', {
  simple: factory([], simpleLoss),
  iso: factory(['lambda', 'base'], isoLoss),
  l1: factory([], l1Loss),
  huber: factory(['delta'], huberLoss),
  'min-snr': factory(['snr_gamma'], minSnrLoss),
  p2: factory(['p2_gamma', 'p2_k'], p2Loss),
  snr: factory([], snrLoss),
  hybrid: factory(['vlb_weight', 'base'], hybridLoss),
});

/** @param known the options of the loss, which checks their values itself. */
function factory<Options>(known: readonly string[], make: (options: Options) => DiffusionLoss): LossFactory {
  return (options) => {
    for (const name of Object.keys(options)) {
      if (known.some((one) => one === name)) continue;
      const nearest = nearestName(name, known);
      const advice = nearest === undefined ? '' : ` (did you mean '${nearest}'?)`;
      throw new InvalidArgumentError(`unknown option '${name}'${advice}: there are ${known.join(', ') || 'none'}`);
    }
    return make(options as Options);
  };
}

/**
 * Builds the loss that a config describes: `{"name": "simple"}`, `{"name": "iso", "lambda": 0.1}` or
 * `{"name": "hybrid", "base": {"name": "iso", "lambda": 0.1}}`. The name is looked up in `losses`, and so is that of
 * every `base`.
 *
 * @throws {ConfigError} when a name is not known, or an option is unknown or out of range.
 */
export function lossFromConfig(json: unknown): DiffusionLoss {
  if (typeof json !== 'object' || json === null || !('name' in json))
    throw new ConfigError('the config of a loss must be an object with the name of the loss');
  const { name, ...options } = json;
  const factory = losses.get(name, ConfigError);
  try {
    return factory('base' in options ? { ...options, base: lossFromConfig(options.base) } : options);
  } catch (cause) {
    if (!(cause instanceof InvalidArgumentError)) throw cause;
    throw new ConfigError(`wrong config of the loss '${name}': ${cause.message}`, { cause });
  }
}
