import * as z from 'zod';
import { ConfigError, InvalidArgumentError } from '../errors.ts';
import { Registry } from '../registry.ts';
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

export interface LossFactoryOptions {
  /** The loss that a config names under `base`; default none. */
  readonly base?: DiffusionLoss | undefined;
  readonly [option: string]: unknown;
}

const base = z.custom<DiffusionLoss>((value) => typeof value === 'function').optional();

/**
 * The losses that a config and `--loss` can name.
 *
 * @example
 * losses.register('cauchy', () => cauchyLoss());
 */
export const losses = new Registry<LossFactory>('loss', {
  simple: factory(z.strictObject({}), simpleLoss),
  iso: factory(z.strictObject({ lambda: z.number().min(0), base }), isoLoss),
  l1: factory(z.strictObject({}), l1Loss),
  huber: factory(z.strictObject({ delta: z.number().optional() }), huberLoss),
  'min-snr': factory(z.strictObject({ snr_gamma: z.number().optional() }), minSnrLoss),
  p2: factory(z.strictObject({ p2_gamma: z.number().optional(), p2_k: z.number().optional() }), p2Loss),
  snr: factory(z.strictObject({}), snrLoss),
  hybrid: factory(z.strictObject({ vlb_weight: z.number().min(0).optional(), base }), hybridLoss),
});

function factory<Options>(schema: z.ZodType<Options>, make: (options: Options) => DiffusionLoss): LossFactory {
  return (options) => {
    const parsed = schema.safeParse(options);
    if (!parsed.success) throw new InvalidArgumentError(z.prettifyError(parsed.error));
    return make(parsed.data);
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
  const parsed = z.looseObject({ name: z.string() }).safeParse(json);
  if (!parsed.success) throw new ConfigError(`wrong loss config: ${z.prettifyError(parsed.error)}`);
  const { name, base, ...options } = parsed.data;
  const factory = losses.get(name, ConfigError);
  try {
    return factory(base === undefined ? options : { ...options, base: lossFromConfig(base) });
  } catch (cause) {
    if (!(cause instanceof InvalidArgumentError)) throw cause;
    throw new ConfigError(`wrong config of the loss '${name}': ${cause.message}`, { cause });
  }
}
