// What a `scheduler_config.json` says beside the options of a scheduler: diffusers saves one that was made from another
// with the keys of both.
import { ConfigError } from '../errors.ts';
import { warnOfUnknownKeys } from '../options.ts';

/** Keys of diffusers' schedulers that choose how a sample is drawn. They say nothing about how a model was trained. */
const SAMPLING_KEYS = [
  ...['algorithm_type', 'solver_order', 'solver_type', 'lower_order_final', 'euler_at_final', 'final_sigmas_type'],
  ...['use_karras_sigmas', 'use_exponential_sigmas', 'use_beta_sigmas', 'use_lu_lambdas', 'lambda_min_clipped'],
  ...['sigma_min', 'sigma_max', 'rho', 'sigma_schedule', 'interpolation_type', 'noise_sampler_seed', 'eta'],
  ...['predict_x0', 'disable_corrector', 'solver_p', 'predictor_order', 'corrector_order', 'tau_func'],
  ...['skip_prk_steps', 'original_inference_steps', 'timestep_scaling'],
  // Of flow matching; without use_flow_sigmas they do nothing.
  ...['flow_shift', 'use_dynamic_shifting', 'time_shift_type', 'shift_terminal'],
  // Of every scheduler of this package.
  ...['clip_sample', 'clip_sample_range', 'thresholding', 'dynamic_thresholding_ratio', 'sample_max_value'],
  ...['set_alpha_to_one', 'variance_type'],
];

/** Keys that change the noise a model was trained with, each with the value under which the betas alone describe it. */
const TRAINING_KEYS: Readonly<Record<string, unknown>> = {
  use_flow_sigmas: false,
  snr_shift_scale: 1,
  timestep_type: 'discrete',
};

/** Whether a config has the betas of its noise schedule; variance-exploding processes and flows have none. */
function hasBetas(config: Readonly<Record<string, unknown>>): boolean {
  return ['beta_start', 'beta_end', 'beta_schedule', 'trained_betas'].some((key) => (config[key] ?? null) !== null);
}

/**
 * Refuses the config of a scheduler whose noise the options of `className` do not describe.
 *
 * @throws {ConfigError} that names the key, or the class.
 */
export function refuseOtherProcess(className: string, json: unknown): void {
  if (typeof json !== 'object' || json === null) return;
  const config = json as Readonly<Record<string, unknown>>;
  for (const [key, value] of Object.entries(TRAINING_KEYS)) {
    const given = config[key] ?? value;
    if (given !== value)
      throw new ConfigError(
        `wrong ${className} config: ${key} is ${JSON.stringify(given)}, which changes the noise that the model was trained with, and is not supported`,
      );
  }
  const { _class_name } = config;
  if (_class_name !== undefined && _class_name !== className && !hasBetas(config))
    throw new ConfigError(
      `the config of a ${JSON.stringify(_class_name)} has no betas, so it describes no noise schedule of a ${className}. Register the class, or give the scheduler that the model was trained with as the option scheduler`,
    );
}

/** Warns of keys in the config of a scheduler that neither the scheduler nor another one of diffusers has. */
export function warnOfUnusedKeys(json: object, made: { toConfig(): object; className: string }): void {
  warnOfUnknownKeys(made.className, json, [
    ...Object.keys(made.toConfig()),
    ...SAMPLING_KEYS,
    ...Object.keys(TRAINING_KEYS),
  ]);
}
