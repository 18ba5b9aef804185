// What all solvers share: where in the reverse process they are, and the sum that every step is.
import { ConfigError, InvalidArgumentError } from '../../errors.ts';
import { refuseOtherProcess } from '../config-file.ts';
import type { SchedulerConfig, SchedulerOptions } from '../schedule.ts';
import { Scheduler } from '../scheduler.ts';
import { checkOneSpacing, exponentialSigmas, karrasSigmas, LOWEST_ALPHA_BAR, type SigmaOptions } from './sigmas.ts';

/**
 * A scheduler that solves the reverse process as a differential equation. It knows its place by the calls of `step`, since
 * a timestep may come twice; `setTimesteps` begins anew. A process may begin at a later entry of `timesteps`.
 */
export abstract class Solver<Own extends object> extends Scheduler<Own> {
  override readonly library: string = 'diffusers';
  /** sigma = sqrt((1 - abar) / abar) at each of `timesteps`, and at the end; empty where a solver has none. */
  sigmas: number[] = [];
  /** The entry of `timesteps` that the next call of `step` is for; undefined before the first. */
  private index: number | undefined;
  private started = false;

  constructor(options: SchedulerOptions, own: Own) {
    super(options, own);
    checkOneSpacing(new.target.name, this.config);
    // Below the abar before it: near T a rescaled schedule can be lower than diffusers' limit, and sigma must rise.
    this.alphasCumprod.forEach((alphaBar, t, all) => {
      if (alphaBar === 0) all[t] = Math.min(LOWEST_ALPHA_BAR, (all[t - 1] ?? 1) / 2);
    });
  }

  /**
   * From a parsed `scheduler_config.json`, of this scheduler or of another one.
   *
   * @throws {ConfigError} when a value is wrong, or the noise is of another kind.
   */
  static override fromConfig<Made extends Scheduler>(
    this: new (
      options: SchedulerOptions,
    ) => Made,
    json: unknown,
  ): Made {
    if (typeof json !== 'object' || json === null || Array.isArray(json))
      throw new ConfigError(`the config of a scheduler must be a JSON object, not ${JSON.stringify(json)}`);
    const made = new this(json);
    refuseOtherProcess(made.className, json);
    return made;
  }

  /**
   * Begins a process at these timesteps.
   *
   * @throws {InvalidArgumentError} where a timestep is outside [0, T), or a sigma before the last is 0 or infinite: no
   * equation can be solved from there.
   */
  protected begin(timesteps: readonly number[], sigmas: readonly number[] = []): void {
    const { num_train_timesteps: T, steps_offset } = this.config;
    const outside = timesteps.find((timestep) => timestep < 0 || timestep > T - 1);
    if (outside !== undefined)
      throw new InvalidArgumentError(
        `steps_offset ${steps_offset} with ${timesteps.length} steps leads to the timestep ${outside}, outside [0, ${T})`,
      );
    this.timesteps = [...timesteps];
    this.sigmas = sigmas.map(Math.fround);
    const wrong = this.sigmas.slice(0, -1).findIndex((sigma) => !(sigma > 0 && Number.isFinite(sigma)));
    if (wrong >= 0)
      throw new InvalidArgumentError(
        `the noise at timestep ${timesteps[wrong]} is ${this.sigmas[wrong]} times the signal: ${this.className} cannot step from there`,
      );
    this.index = undefined;
    this.started = true;
  }

  /**
   * The entry of `timesteps` that is due. The first call finds it by the timestep.
   *
   * @throws {InvalidArgumentError} when the timestep is not the one that is due, or not in `timesteps`.
   */
  protected place(timestep: number): number {
    const { timesteps } = this;
    const index = this.index ?? (timestep === timesteps[0] ? 0 : timesteps.lastIndexOf(timestep));
    if (timesteps[index] === timestep && this.started) return index;
    throw new InvalidArgumentError(
      !this.started
        ? `${this.className} needs setTimesteps() before its first step`
        : `${this.className} is at the timestep ${timesteps[this.index ?? 0] ?? 'after the last'}, but was called with ${timestep}: call step() with each of timesteps in turn, after setTimesteps()`,
    );
  }

  /** The same, and the next call is for the entry after it. */
  protected advance(timestep: number): number {
    const index = this.place(timestep);
    this.index = index + 1;
    return index;
  }

  /** @throws {InvalidArgumentError} when `timesteps` has no such entry. */
  override setBeginIndex(index: number): void {
    if (this.timesteps[index] === undefined)
      throw new InvalidArgumentError(`timesteps has no entry ${index}, but ${this.timesteps.length} from 0`);
    this.index = index;
  }

  /** 20, or T - 1 where that is less: more a solver in log-SNR cannot take. */
  override get usualSteps(): number {
    return Math.min(20, Math.max(1, this.config.num_train_timesteps - 1));
  }

  /** The sigmas between two as the config spaces them; undefined where they follow the timesteps. */
  protected spacedSigmas(largest: number, smallest: number, count: number): number[] | undefined {
    const { use_karras_sigmas, use_exponential_sigmas } = this.config as SigmaOptions & SchedulerConfig;
    if (use_karras_sigmas) return karrasSigmas(largest, smallest, count);
    return use_exponential_sigmas ? exponentialSigmas(largest, smallest, count) : undefined;
  }
}

/** A weight and what it multiplies. */
export type Term = readonly [weight: number, values: Float32Array];

/**
 * The sum of the terms, in float64, rounded once. Terms of weight 0 are left out: they may hold what is not finite.
 *
 * @throws {InvalidArgumentError} when the values differ in length.
 */
export function sumOf(...terms: readonly Term[]): Float32Array {
  const used = terms.filter(([weight]) => weight !== 0);
  const length = terms[0]?.[1].length ?? 0;
  const wrong = terms.find(([, values]) => values.length !== length);
  if (wrong)
    throw new InvalidArgumentError(
      `the sample has ${length} values, but the model's output or the noise has ${wrong[1].length}`,
    );
  const sum = new Float64Array(length);
  for (const [weight, values] of used)
    for (let i = 0; i < length; i++) sum[i] = (sum[i] as number) + weight * (values[i] as number);
  return Float32Array.from(sum);
}
