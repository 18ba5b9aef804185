import { z } from 'zod';
import { ConfigError } from '../errors.ts';
import { BETA_SCHEDULES } from './betas.ts';
import { PREDICTION_TYPES } from './step-coefficients.ts';
import { TIMESTEP_SPACINGS } from './timesteps.ts';

export const VARIANCE_TYPES = [
  'fixed_small',
  'fixed_small_log',
  'fixed_large',
  'fixed_large_log',
  'learned',
  'learned_range',
] as const;
export type VarianceType = (typeof VARIANCE_TYPES)[number];

const beta = z.number().min(0).lt(1);

/** The keys that diffusers' DDPMScheduler and DDIMScheduler share, with the defaults of their constructors. */
const shared = {
  num_train_timesteps: z.int().min(1).max(1_000_000).default(1000),
  beta_start: beta.default(0.0001),
  beta_end: beta.default(0.02),
  beta_schedule: z.enum(BETA_SCHEDULES).default('linear'),
  trained_betas: z.array(z.number().min(0).max(1)).nullable().default(null),
  clip_sample: z.boolean().default(true),
  clip_sample_range: z.number().positive().default(1),
  prediction_type: z.enum(PREDICTION_TYPES).default('epsilon'),
  thresholding: z.boolean().default(false),
  dynamic_thresholding_ratio: z.number().min(0).max(1).default(0.995),
  sample_max_value: z.number().positive().default(1),
  timestep_spacing: z.enum(TIMESTEP_SPACINGS).default('leading'),
  steps_offset: z.int().min(0).default(0),
  rescale_betas_zero_snr: z.boolean().default(false),
};

export const ddpmConfigSchema = z.object({
  ...shared,
  variance_type: z.enum(VARIANCE_TYPES).default('fixed_small'),
});
export const ddimConfigSchema = z.object({ ...shared, set_alpha_to_one: z.boolean().default(true) });

export type DDPMConfig = z.output<typeof ddpmConfigSchema>;
export type DDIMConfig = z.output<typeof ddimConfigSchema>;
export type SharedConfig = z.output<z.ZodObject<typeof shared>>;
export type DDPMOptions = z.input<typeof ddpmConfigSchema>;
export type DDIMOptions = z.input<typeof ddimConfigSchema>;

/**
 * Fills in defaults. Keys of other diffusers schedulers are ignored, as diffusers does.
 *
 * @throws {ConfigError} that lists every wrong value.
 */
export function parseSchedulerConfig<Schema extends z.ZodType<SharedConfig>>(
  className: string,
  schema: Schema,
  options: unknown,
): z.output<Schema> {
  const parsed = schema.safeParse(options);
  if (!parsed.success) throw new ConfigError(`wrong ${className} config: ${z.prettifyError(parsed.error)}`);
  const { trained_betas, num_train_timesteps } = parsed.data;
  if (trained_betas && trained_betas.length !== num_train_timesteps) {
    throw new ConfigError(
      `wrong ${className} config: trained_betas has ${trained_betas.length} values, but num_train_timesteps is ${num_train_timesteps}`,
    );
  }
  return parsed.data;
}
