import { InvalidArgumentError } from '../errors.ts';
import type { JsonObject } from '../files/json.ts';
import { DIFFUSERS_VERSION } from '../hub/diffusers-version.ts';
import { cumulativeAlphas, makeBetas, rescaleZeroTerminalSnr } from './betas.ts';
import type { SharedConfig } from './scheduler-config.ts';
import { predictOriginal, previousSample, type StepCoefficients } from './step-coefficients.ts';
import { dynamicThreshold } from './thresholding.ts';
import { checkTimesteps, spacedTimesteps } from './timesteps.ts';

export interface StepOptions {
  /** Standard normal noise of the sample's size, for steps where `needsNoise` is true. */
  readonly noise?: Float32Array | undefined;
  /** [batch, channels, ...]; needed for thresholding and learned variances only. */
  readonly sample_shape?: readonly number[] | undefined;
  /** DDIM's eta in [0, 1], default 0. */
  readonly eta?: number | undefined;
  /** DDIM: derive epsilon anew from the clipped prediction; default false. */
  readonly use_clipped_model_output?: boolean | undefined;
}

export interface StepOutput {
  /** x at the previous timestep. */
  readonly prev_sample: Float32Array;
  /** The clean sample as predicted now. */
  readonly pred_original_sample: Float32Array;
}

/** What DDPM and DDIM have in common: the tables, the timesteps and the forward process. */
export abstract class Scheduler<Config extends SharedConfig> {
  /** T float32 values, as are `alphasCumprod`. */
  readonly betas: Float32Array;
  readonly alphasCumprod: Float32Array;
  /** The timesteps of the reverse process, falling. Before `setTimesteps`: all of them. */
  timesteps: number[];
  protected numInferenceSteps: number | undefined;
  protected hasCustomTimesteps = false;

  constructor(readonly config: Config) {
    const betas = makeBetas(config);
    this.betas = config.rescale_betas_zero_snr ? rescaleZeroTerminalSnr(betas) : betas;
    this.alphasCumprod = cumulativeAlphas(this.betas);
    this.timesteps = Array.from(this.betas, (_, i) => config.num_train_timesteps - 1 - i);
  }

  /** Chooses the timesteps of the reverse process: `num_inference_steps` spaced ones, or the given ones. */
  setTimesteps(
    num_inference_steps: number | undefined,
    options: { timesteps?: readonly number[] } = {},
  ): void {
    if (options.timesteps) {
      this.timesteps = checkTimesteps(options.timesteps, this.config.num_train_timesteps);
      this.numInferenceSteps = this.timesteps.length;
      this.hasCustomTimesteps = true;
      return;
    }
    const count = num_inference_steps ?? this.config.num_train_timesteps;
    this.timesteps = spacedTimesteps(count, this.config);
    this.numInferenceSteps = count;
    this.hasCustomTimesteps = false;
  }

  /** The class name under which the config is saved. */
  abstract readonly className: string;

  /**
   * The step at `timestep` as scalars, or null where it is none: with thresholding, and with learned variances.
   *
   * @throws {InvalidArgumentError} when the timestep is out of range.
   */
  abstract needsNoise(timestep: number, eta?: number): boolean;

  abstract stepCoefficients(
    timestep: number,
    options?: Pick<StepOptions, 'eta' | 'use_clipped_model_output'>,
  ): StepCoefficients | null;

  /** x_(t-1) from x_t and the model's output. See `StepOptions`. */
  abstract step(
    modelOutput: Float32Array,
    timestep: number,
    sample: Float32Array,
    options?: StepOptions,
  ): StepOutput;

  /** sqrt(abar_t) original + sqrt(1 - abar_t) noise; one timestep a sample of `sampleSize` values. */
  addNoise(
    original: Float32Array,
    noise: Float32Array,
    timesteps: readonly number[],
    sampleSize: number,
  ): Float32Array {
    return this.combine(original, noise, timesteps, sampleSize, 1);
  }

  /** v = sqrt(abar_t) noise - sqrt(1 - abar_t) sample (Salimans & Ho 2022). */
  getVelocity(
    sample: Float32Array,
    noise: Float32Array,
    timesteps: readonly number[],
    sampleSize: number,
  ): Float32Array {
    return this.combine(noise, sample, timesteps, sampleSize, -1);
  }

  /** The config as diffusers saves it. */
  toConfig(): JsonObject & { _class_name: string } {
    return { _class_name: this.className, _diffusers_version: DIFFUSERS_VERSION, ...this.config };
  }

  protected alphaBarAt(timestep: number): number {
    const alphaBar = this.alphasCumprod[timestep];
    if (alphaBar !== undefined) return alphaBar;
    throw new InvalidArgumentError(
      `timestep ${timestep} is not a whole number in [0, ${this.config.num_train_timesteps})`,
    );
  }

  /** The step given by coefficients, with thresholding in place of clipping where it is on. */
  protected stepWith(
    coefficients: StepCoefficients,
    modelOutput: Float32Array,
    sample: Float32Array,
    options: StepOptions,
  ): StepOutput {
    if (modelOutput.length !== sample.length) {
      throw new InvalidArgumentError(
        `the model output has ${modelOutput.length} values, but the sample has ${sample.length}`,
      );
    }
    if (coefficients.fromNoise !== 0 && options.noise?.length !== sample.length) {
      throw new InvalidArgumentError(
        `this step needs ${sample.length} values of noise, got ${options.noise?.length ?? 'none'}`,
      );
    }
    const predicted = predictOriginal(modelOutput, sample, coefficients);
    const original = this.config.thresholding ? this.threshold(predicted, options) : predicted;
    const prev_sample = previousSample(
      { original, sample, output: modelOutput, noise: options.noise },
      coefficients,
    );
    return { prev_sample, pred_original_sample: original };
  }

  /** Thresholding takes precedence over clipping. */
  protected get clipLimit(): number | null {
    return this.config.clip_sample && !this.config.thresholding ? this.config.clip_sample_range : null;
  }

  private threshold(values: Float32Array, { sample_shape }: StepOptions): Float32Array {
    const batch = sample_shape?.[0];
    if (batch === undefined)
      throw new InvalidArgumentError('thresholding needs the option sample_shape: [batch, ...]');
    return dynamicThreshold(
      values,
      batch,
      this.config.dynamic_thresholding_ratio,
      this.config.sample_max_value,
    );
  }

  private combine(
    signal: Float32Array,
    rest: Float32Array,
    timesteps: readonly number[],
    sampleSize: number,
    sign: 1 | -1,
  ): Float32Array {
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
