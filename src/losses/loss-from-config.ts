import { z } from 'zod';
import { ConfigError } from '../errors.ts';
import type { DiffusionLoss } from './diffusion-loss.ts';
import { hybridLoss } from './hybrid.ts';
import { isoLoss } from './iso.ts';
import { simpleLoss } from './simple.ts';

const simpleSchema = z.strictObject({ name: z.literal('simple') });
const isoSchema = z.strictObject({
  name: z.literal('iso'),
  lambda: z.number().min(0),
  base: simpleSchema.optional(),
});
const hybridSchema = z.strictObject({
  name: z.literal('hybrid'),
  vlb_weight: z.number().min(0).optional(),
  base: z.discriminatedUnion('name', [simpleSchema, isoSchema]).optional(),
});
const configSchema = z.discriminatedUnion('name', [simpleSchema, isoSchema, hybridSchema]);

/**
 * Builds the loss that a config describes: `{"name": "simple"}`, `{"name": "iso", "lambda": 0.1}` or
 * `{"name": "hybrid", "base": {"name": "iso", "lambda": 0.1}}`. Losses of one's own
 * (`defineLoss`) are built in code and cannot be read back.
 *
 * @throws {ConfigError} when the name is not known, or an option is unknown or out of range.
 */
export function lossFromConfig(json: unknown): DiffusionLoss {
  const parsed = configSchema.safeParse(json);
  if (!parsed.success) throw new ConfigError(`wrong loss config: ${z.prettifyError(parsed.error)}`);
  return built(parsed.data);
}

function built(config: z.output<typeof configSchema>): DiffusionLoss {
  switch (config.name) {
    case 'simple':
      return simpleLoss();
    case 'iso':
      return isoLoss({ lambda: config.lambda });
    case 'hybrid':
      return hybridLoss({ vlb_weight: config.vlb_weight, base: config.base && built(config.base) });
  }
}
