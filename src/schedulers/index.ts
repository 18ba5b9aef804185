import { ConfigError } from '../errors.ts';
import { DDIMScheduler } from './ddim.ts';
import { DDPMScheduler } from './ddpm.ts';

export { DDIMScheduler } from './ddim.ts';
export { DDPMScheduler } from './ddpm.ts';
export type { StepOptions, StepOutput } from './scheduler.ts';
export type { DDIMOptions, DDPMOptions } from './scheduler-config.ts';
export type { StepCoefficients } from './step-coefficients.ts';

/** The schedulers a pipeline can run with. */
export type DiffusionScheduler = DDPMScheduler | DDIMScheduler;

/**
 * Builds the scheduler of a parsed `scheduler_config.json` by its `_class_name`.
 *
 * @throws {ConfigError} when the class is another one, or a value is wrong.
 */
export function schedulerFromConfig(json: unknown): DiffusionScheduler {
  const name =
    typeof json === 'object' && json !== null && '_class_name' in json ? json._class_name : undefined;
  if (name === 'DDPMScheduler') return DDPMScheduler.fromConfig(json);
  if (name === 'DDIMScheduler') return DDIMScheduler.fromConfig(json);
  throw new ConfigError(
    `scheduler class ${JSON.stringify(name) ?? 'missing'} is not supported: use "DDPMScheduler" or "DDIMScheduler"`,
  );
}
