// The contract of a scheduler. A pipeline runs a copy of it: `setTimesteps`, then for each of `timesteps` the model on
// `scaleModelInput` and one `step`. Training reads `config`, `betas` and `alphasCumprod`.

import { requireArray, requireObject } from '../arguments.ts';
import { ConfigError, InvalidArgumentError } from '../errors.ts';
import type { JsonObject } from '../files/json.ts';
import type { PretrainedOptions } from '../hub/open-pretrained.ts';
import { DIFFUSERS_VERSION } from '../hub/pipeline-folder.ts';
import { warnOfUnusedKeys } from './config-file.ts';
import { deepCopy } from './deep-copy.ts';
import {
  alphaBarBetween,
  checkTimesteps,
  cumulativeAlphas,
  makeBetas,
  parseSchedulerConfig,
  rescaleZeroTerminalSnr,
  type SchedulerConfig,
  type SchedulerOptions,
  scheduleShape,
  spacedTimesteps,
} from './schedule.ts';
import type { NoiseLevel, StepCoefficients, StepOptions, StepOutput } from './steps.ts';

/**
 * The base of all schedulers: the noise schedule, the timesteps, and the forward process. A subclass needs a
 * `className` and a `step`; it overrides the rest where it differs.
 *
 * - Fractional timesteps: override `setTimesteps` and put them into `timesteps`.
 * - Several model evaluations a step (Heun): repeat timesteps; each entry is one evaluation and one call of `step`.
 * - History (multistep solvers): keep it in fields and clear it in `setTimesteps`. Every call of a pipeline works on a
 *   `clone()`, so that calls at the same time do not share it.
 *
 * @typeParam Own options of the subclass, kept in `config` beside the shared ones.
 * @example
 * class MyScheduler extends Scheduler {
 *   readonly className = 'MyScheduler';
 *   step(epsilon: Float32Array, timestep: number, sample: Float32Array) {
 *     return { prev_sample: sample.map((x, i) => x - 0.01 * (epsilon[i] ?? 0)) };
 *   }
 * }
 * schedulers.register('MyScheduler', MyScheduler); // docs/schedulers.md has Euler's method whole
 */
export abstract class Scheduler<Own extends object = object> {
  /** The class name under which the config is saved and the class is registered. */
  abstract readonly className: string;
  /**
   * The Python library that has a class of this name with the same config; it is written to `model_index.json`. Default
   * `iso_diffusion`, which is this package.
   */
  readonly library: string = 'iso_diffusion';
  /** Every option with its default filled in. */
  readonly config: SchedulerConfig & Own;
  /** The variances of the forward process: T float32 values in [0, 1]. */
  readonly betas: Float32Array;
  /** The cumulative products of 1 - beta, abar: T float32 values in [0, 1], falling. */
  readonly alphasCumprod: Float32Array;
  /** The timesteps of the reverse process in their order, from 0; may be fractions. Before `setTimesteps`: all T, falling. */
  timesteps: number[];
  /** The standard deviation of the noise that a reverse process starts from; default 1. Valid after `setTimesteps`. */
  init_noise_sigma = 1;

  /**
   * @param options checked here; keys of other schedulers are left out.
   * @param own the subclass's own options, with their defaults; default none.
   * @throws {ConfigError} that lists every wrong option.
   */
  constructor(options: SchedulerOptions = {}, own: Own = {} as Own) {
    const schedule = parseSchedulerConfig(new.target.name, scheduleShape, options);
    this.config = { ...schedule, ...own };
    const betas = makeBetas(schedule);
    this.betas = schedule.rescale_betas_zero_snr ? rescaleZeroTerminalSnr(betas) : betas;
    this.alphasCumprod = cumulativeAlphas(this.betas);
    this.timesteps = Array.from(this.betas, (_, i) => schedule.num_train_timesteps - 1 - i);
  }

  /**
   * From a parsed `scheduler_config.json`, by the constructor. A subclass whose constructor takes something else than
   * options overrides it.
   *
   * @throws {ConfigError} when a value is wrong.
   */
  static fromConfig(this: new (options: SchedulerOptions) => Scheduler, json: unknown): Scheduler {
    if (typeof json === 'object' && json !== null && !Array.isArray(json)) return new this(json);
    throw new ConfigError(`the config of a scheduler must be a JSON object, not ${JSON.stringify(json)}`);
  }

  /**
   * From a saved pipeline folder or a Hub id, of this scheduler or of another one: keys that it does not have are left
   * out, and one warning names those that no scheduler of diffusers has.
   *
   * @throws {ConfigError} when the config is missing or wrong.
   * @throws {HubError} when it cannot be downloaded.
   * @example
   * const noise_scheduler = await DDPMScheduler.from_pretrained('google/ddpm-cifar10-32');
   */
  static async from_pretrained<Made extends Scheduler>(
    this: { fromConfig(json: unknown): Made },
    model: string,
    options: PretrainedOptions = {},
  ): Promise<Made> {
    // What reads files comes only with this call: a scheduler itself is arithmetic.
    const { openPretrained } = await import('../hub/open-pretrained.ts');
    const folder = await openPretrained(model, { ...options, require: [] });
    // biome-ignore lint/complexity/noThisInStatic: the subclass that this is called on
    const made = this.fromConfig(folder.schedulerConfig);
    warnOfUnusedKeys(folder.schedulerConfig, made);
    return made;
  }

  /**
   * Chooses the timesteps of the reverse process: `num_inference_steps` spaced ones (default T), or the given ones.
   *
   * @throws {InvalidArgumentError} when the number is not from 1 to T, or a given timestep is out of order or range.
   */
  setTimesteps(
    num_inference_steps?: number | undefined,
    options: { timesteps?: readonly number[] | undefined } = {},
  ): void {
    requireObject('the second argument of setTimesteps', options);
    const { num_train_timesteps } = this.config;
    const { timesteps } = options;
    this.timesteps = timesteps
      ? checkTimesteps(timesteps, num_train_timesteps)
      : spacedTimesteps(num_inference_steps ?? num_train_timesteps, this.config);
  }

  /** What the model is given in place of `sample` at `timestep`; default the sample itself. */
  scaleModelInput(sample: Float32Array, _timestep: number): Float32Array {
    return sample;
  }

  /**
   * The next sample of the reverse process, from the current one and the model's output for it.
   *
   * @param modelOutput as many values as `sample`; twice as many where `learnsVariance` is true.
   * @param timestep one of `timesteps`.
   * @param sample row-major [batch, ...], in model units, before `scaleModelInput`.
   */
  abstract step(modelOutput: Float32Array, timestep: number, sample: Float32Array, options?: StepOptions): StepOutput;

  /** Whether the step at `timestep` needs noise; default false. */
  needsNoise(_timestep: number, _eta?: number): boolean {
    return false;
  }

  /** Whether `step` takes the second half of the output channels as a variance; default false. */
  get learnsVariance(): boolean {
    return false;
  }

  /** Steps that a pipeline takes where a call does not say how many; default 1000, or T where that is less. */
  get usualSteps(): number {
    return Math.min(1000, this.config.num_train_timesteps);
  }

  /**
   * What a sample is that `step` takes at the entry `index` of `timesteps`; default that of the forward process at this
   * timestep. Solvers in sigma have samples of another scale.
   */
  noiseLevel(index: number): NoiseLevel {
    const alphaBar = alphaBarBetween(this.alphasCumprod, this.timesteps[index] ?? 0);
    return { signal: Math.sqrt(alphaBar), noise: Math.sqrt(1 - alphaBar) };
  }

  /**
   * The entries of `timesteps` at which a step begins, rising: a process can begin there with a sample of `noiseLevel`.
   * Default all; fewer where a step has several evaluations of the model.
   */
  get stepStarts(): number[] {
    return this.timesteps.map((_, index) => index);
  }

  /** The first call of `step` after `setTimesteps` will be for this entry of `timesteps`. Default: nothing to note. */
  setBeginIndex(_index: number): void {}

  /**
   * `step` at `timestep` as scalars, with which many steps can run inside one graph; null (default) where it is not
   * such a combination, for instance with thresholding.
   */
  stepCoefficients(
    _timestep: number,
    _options?: Pick<StepOptions, 'eta' | 'use_clipped_model_output'>,
  ): StepCoefficients | null {
    return null;
  }

  /**
   * A scheduler that shares no state with this one: made by the constructor from `config`, with a deep copy of every
   * property. Private `#fields` begin anew. A subclass whose constructor does not take its `config` overrides it.
   *
   * @throws {InvalidArgumentError} when the constructor refuses the config.
   */
  clone(): this {
    const Class = this.constructor as unknown as new (options: SchedulerOptions) => this;
    let copy: this;
    try {
      copy = new Class(this.config);
    } catch (cause) {
      throw new InvalidArgumentError(
        `${this.className} cannot be copied by its constructor from its config: override clone()`,
        { cause },
      );
    }
    const seen = new Map<object, unknown>([[this, copy]]);
    // A function made by the constructor, for instance an arrow function, belongs to the instance it was made for.
    for (const [key, value] of Object.entries(this))
      if (typeof value !== 'function') Object.assign(copy, { [key]: deepCopy(value, seen) });
    return copy;
  }

  /**
   * sqrt(abar_t) original + sqrt(1 - abar_t) noise; one timestep a sample of `sampleSize` values.
   *
   * @throws {InvalidArgumentError} when a timestep is not a whole number from 0 to T - 1, or sizes do not fit.
   */
  addNoise(
    original: Float32Array,
    noise: Float32Array,
    timesteps: readonly number[],
    sampleSize: number,
  ): Float32Array {
    return this.combine(original, noise, timesteps, sampleSize, 1);
  }

  /**
   * v = sqrt(abar_t) noise - sqrt(1 - abar_t) sample (Salimans & Ho 2022); one timestep a sample of `sampleSize` values.
   *
   * @throws {InvalidArgumentError} as `addNoise`.
   */
  getVelocity(
    sample: Float32Array,
    noise: Float32Array,
    timesteps: readonly number[],
    sampleSize: number,
  ): Float32Array {
    return this.combine(noise, sample, timesteps, sampleSize, -1);
  }

  /**
   * The timestep that the step from `timestep` leads to: the next of `timesteps`, -1 after the last.
   *
   * @throws {InvalidArgumentError} when `timestep` is not one of `timesteps`.
   */
  protected previousTimestep(timestep: number): number {
    const index = this.timesteps.indexOf(timestep);
    if (index >= 0) return this.timesteps[index + 1] ?? -1;
    throw new InvalidArgumentError(
      `timestep ${timestep} is not among the timesteps of the reverse process: they are chosen by setTimesteps`,
    );
  }

  /** The config as diffusers saves it: a copy, as JSON. */
  toConfig(): JsonObject & {
    /** The class, by diffusers' name. */
    _class_name: string;
  } {
    const config: JsonObject = JSON.parse(JSON.stringify(this.config));
    return { _class_name: this.className, _diffusers_version: DIFFUSERS_VERSION, ...config };
  }

  /** @throws {InvalidArgumentError} when `timestep` is not a whole number from 0 to T - 1. */
  protected alphaBarAt(timestep: number): number {
    const alphaBar = this.alphasCumprod[timestep];
    if (alphaBar !== undefined) return alphaBar;
    throw new InvalidArgumentError(
      `timestep ${timestep} is not a whole number in [0, ${this.config.num_train_timesteps})`,
    );
  }

  private combine(
    signal: Float32Array,
    rest: Float32Array,
    timesteps: readonly number[],
    sampleSize: number,
    sign: 1 | -1,
  ): Float32Array {
    for (const values of [signal, rest, timesteps]) requireArray('a sample, its noise or its timesteps', values);
    if (signal.length !== rest.length || signal.length !== timesteps.length * sampleSize) {
      throw new InvalidArgumentError(
        `expected ${timesteps.length} samples of ${sampleSize} values twice, got ${signal.length} and ${rest.length} values`,
      );
    }
    const result = new Float32Array(signal.length);
    timesteps.forEach((timestep, row) => {
      const alphaBar = this.alphaBarAt(timestep);
      const a = Math.fround(Math.sqrt(alphaBar));
      const b = sign * Math.fround(Math.sqrt(Math.fround(1 - alphaBar)));
      for (let i = row * sampleSize; i < (row + 1) * sampleSize; i++) {
        result[i] = Math.fround(a * (signal[i] as number)) + Math.fround(b * (rest[i] as number));
      }
    });
    return result;
  }
}
