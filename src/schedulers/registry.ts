import { InvalidArgumentError } from '../errors.ts';
import { warnOnce } from '../options.ts';
import { nearestName, Registry, savedClass } from '../registry.ts';
import { warnOfUnusedKeys } from './config-file.ts';
import { DDIMScheduler } from './ddim.ts';
import { DDPMScheduler } from './ddpm.ts';
import { Scheduler } from './scheduler.ts';
import { DDIMInverseScheduler } from './solvers/ddim-inverse.ts';
import { DEISMultistepScheduler } from './solvers/deis.ts';
import { DPMSolverMultistepScheduler, DPMSolverSinglestepScheduler } from './solvers/dpm-solver.ts';
import { EulerAncestralDiscreteScheduler, EulerDiscreteScheduler } from './solvers/euler.ts';
import { HeunDiscreteScheduler } from './solvers/heun.ts';
import { LMSDiscreteScheduler } from './solvers/lms.ts';
import { PNDMScheduler } from './solvers/pndm.ts';
import { UniPCMultistepScheduler } from './solvers/unipc.ts';

/** What is registered under a name: the class, which builds itself from a parsed `scheduler_config.json`. */
export interface SchedulerClass {
  /** The scheduler of a parsed `scheduler_config.json`. @throws {ConfigError} when it does not fit. */
  fromConfig(json: unknown): Scheduler;
}

/**
 * The schedulers by their class names. What is registered here can be named in a saved config, in the option
 * `scheduler` and on the command line.
 *
 * @example
 * schedulers.register('EulerScheduler', EulerScheduler);
 * await generate({ scheduler: 'EulerScheduler', num_inference_steps: 30 });
 */
export const schedulers = new Registry<SchedulerClass>('scheduler', {
  DDPMScheduler,
  DDIMScheduler,
  DPMSolverMultistepScheduler,
  DPMSolverSinglestepScheduler,
  UniPCMultistepScheduler,
  EulerDiscreteScheduler,
  EulerAncestralDiscreteScheduler,
  HeunDiscreteScheduler,
  PNDMScheduler,
  LMSDiscreteScheduler,
  DEISMultistepScheduler,
  DDIMInverseScheduler,
});

type NamedConfig = Readonly<Record<string, unknown>> & { readonly _class_name: string };

/** sigma^(1/7) evenly spaced, whatever the spacing of the scheduler whose noise schedule is taken. */
const KARRAS = { use_karras_sigmas: true, use_exponential_sigmas: false, use_lu_lambdas: false };

/** Names in place of a class name, for the option `scheduler` and the command line. */
const SHORT_NAMES: Readonly<Record<string, NamedConfig>> = {
  ddpm: { _class_name: 'DDPMScheduler' },
  ddim: { _class_name: 'DDIMScheduler' },
  'dpm++': { _class_name: 'DPMSolverMultistepScheduler' },
  'dpm++-karras': { _class_name: 'DPMSolverMultistepScheduler', ...KARRAS },
  'dpm++-single': { _class_name: 'DPMSolverSinglestepScheduler' },
  unipc: { _class_name: 'UniPCMultistepScheduler' },
  euler: { _class_name: 'EulerDiscreteScheduler' },
  'euler-a': { _class_name: 'EulerAncestralDiscreteScheduler' },
  heun: { _class_name: 'HeunDiscreteScheduler' },
  pndm: { _class_name: 'PNDMScheduler' },
  lms: { _class_name: 'LMSDiscreteScheduler' },
  deis: { _class_name: 'DEISMultistepScheduler' },
};
/** It draws nothing: it goes from a sample to its noise. */
const INVERSION = 'DDIMInverseScheduler';

/** "constant" for ConstantScheduler. */
const withoutEnding = (className: string) => className.replace(/Scheduler$/, '').toLowerCase();

/** The short names of all schedulers that draw: those above, or the class name without `Scheduler` in lower case. */
export function schedulerNames(): string[] {
  const named = new Set([INVERSION, ...Object.values(SHORT_NAMES).map(({ _class_name }) => _class_name)]);
  const others = schedulers.names().filter((name) => !named.has(name));
  return [...Object.keys(SHORT_NAMES), ...others.map(withoutEnding)];
}

/**
 * What a class name or a short name means, such as 'dpm++': the class name, and options that are not its defaults.
 *
 * @throws {InvalidArgumentError} when it is not registered; says the nearest name.
 */
export function namedSchedulerConfig(name: string): NamedConfig {
  const short = name.toLowerCase();
  const className = schedulers.names().find((known) => withoutEnding(known) === short) ?? name;
  const config = SHORT_NAMES[short] ?? { _class_name: className };
  if (schedulers.find(config._class_name)) return config;
  const nearest = nearestName(name, [...schedulerNames(), ...schedulers.names()]);
  throw new InvalidArgumentError(
    `the scheduler '${name}' is unknown.${nearest === undefined ? '' : ` Did you mean '${nearest}'?`} There are ${schedulerNames().join(', ')}, and class names; schedulers.register() adds your own`,
  );
}

/**
 * Builds the scheduler of a parsed `scheduler_config.json` by its `_class_name`.
 *
 * @throws {ConfigError} when the class is not registered, or a value is wrong.
 */
export function schedulerFromConfig(json: unknown): Scheduler {
  return savedClass(schedulers, json).fromConfig(json);
}

/**
 * The scheduler of a saved folder, or the one that the option `scheduler` gives in its place; a class name alone gets the
 * noise schedule of the folder. Where the folder's class is not registered, DDIM takes its place, or DDPM where the config
 * has a `variance_type`, with the same noise schedule; a warning says so.
 *
 * @param config the parsed `scheduler_config.json`.
 * @throws {ConfigError} when a value is wrong, or a class that is not registered has no betas.
 * @throws {InvalidArgumentError} as `asScheduler`.
 */
export function schedulerOfFolder(
  config: Readonly<Record<string, unknown>> & { readonly _class_name: string },
  given?: GivenScheduler | undefined,
): Scheduler {
  if (given !== undefined && typeof given !== 'string') return asScheduler(given, new DDPMScheduler());
  const { _class_name: className } = config;
  const isKnown = schedulers.find(className) !== undefined;
  const own = isKnown ? schedulerFromConfig(config) : replacementOf(config);
  warnOfUnusedKeys(config, own);
  if (given !== undefined) return asScheduler(given, own);
  const { beta_schedule, beta_start, beta_end, trained_betas, num_train_timesteps } = own.config;
  const betas = trained_betas ? 'trained_betas' : `${beta_schedule}, ${beta_start} to ${beta_end}`;
  if (!isKnown)
    warnOnce(
      `the scheduler of the folder is a ${className}, which is not registered: ${own.className} takes its place, with its noise schedule (${betas}, ${num_train_timesteps} timesteps). The option scheduler chooses another one`,
    );
  return own;
}

/** Schedulers without `clip_sample` do not clip. */
function replacementOf(config: Readonly<Record<string, unknown>>): Scheduler {
  const Class = typeof config.variance_type === 'string' ? DDPMScheduler : DDIMScheduler;
  return Class.fromConfig({ clip_sample: false, ...config });
}

/** A scheduler, the JSON config of one, or the name of a registered one: its class name, or a short one such as 'dpm++'. */
export type GivenScheduler = Scheduler | Readonly<Record<string, unknown>> | string;

/**
 * The scheduler that an option means. One given by its name alone gets the noise schedule of `own`.
 *
 * @throws {InvalidArgumentError} when the name is not registered, or an object with a `step` lacks another method.
 * @throws {ConfigError} when a config has no registered `_class_name`, or a wrong value.
 */
export function asScheduler(given: GivenScheduler, own: Scheduler): Scheduler {
  if (typeof given !== 'string' && (typeof given !== 'object' || given === null))
    throw new InvalidArgumentError(
      `scheduler is ${JSON.stringify(given) ?? typeof given}, but must be a scheduler, its config or its class name`,
    );
  if (typeof given === 'string') {
    const named = namedSchedulerConfig(given);
    return schedulers.get(named._class_name).fromConfig({ ...own.toConfig(), ...named });
  }
  return isScheduler(given) ? given : schedulerFromConfig(given);
}

/**
 * Also true for a scheduler of another copy of this package, which is not an instance of this `Scheduler`.
 *
 * @throws {InvalidArgumentError} when an object with a `step` lacks another method.
 */
export function isScheduler(given: Exclude<GivenScheduler, string>): given is Scheduler {
  if (given instanceof Scheduler) return true;
  if (!('step' in given)) return false;
  const drawing = ['setTimesteps', 'scaleModelInput', 'needsNoise', 'stepCoefficients', 'toConfig', 'clone'];
  const methods = [...drawing, 'noiseLevel', 'setBeginIndex'];
  const missing = methods.filter((name) => typeof Reflect.get(given, name) !== 'function');
  if (missing.length === 0) return true;
  throw new InvalidArgumentError(
    `the given scheduler has a step, but no ${missing.join(', ')}: let its class extend Scheduler`,
  );
}
