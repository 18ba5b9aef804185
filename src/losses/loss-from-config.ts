import { z } from 'zod';
import { ConfigError } from '../errors.ts';
import type { DiffusionLoss } from './diffusion-loss.ts';
import { isoLoss } from './iso.ts';
import { simpleLoss } from './simple.ts';

const simpleSchema = z.strictObject({ name: z.literal('simple') });
const configSchema = z.discriminatedUnion('name', [
  simpleSchema,
  z.strictObject({
    name: z.literal('iso'),
    lambda: z.number().min(0),
    base: simpleSchema.optional(),
  }),
]);

/**
 * Builds the loss that a config describes: `{"name": "simple"}` or `{"name": "iso", "lambda": 0.1}`. Losses of one's own
 * (`defineLoss`) are built in code and cannot be read back.
 *
 * @throws {ConfigError} when the name is not known, or an option is unknown or out of range.
 */
export function lossFromConfig(json: unknown): DiffusionLoss {
  const parsed = configSchema.safeParse(json);
  if (!parsed.success) throw new ConfigError(`wrong loss config: ${z.prettifyError(parsed.error)}`);
  return parsed.data.name === 'iso' ? isoLoss({ lambda: parsed.data.lambda }) : simpleLoss();
}
