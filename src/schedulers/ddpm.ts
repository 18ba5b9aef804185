import { InvalidArgumentError } from '../errors.ts';
import { openPretrained, type PretrainedOptions } from '../hub/open-pretrained.ts';
import { Scheduler, type StepOptions, type StepOutput } from './scheduler.ts';
import {
  type DDPMConfig,
  type DDPMOptions,
  ddpmConfigSchema,
  parseSchedulerConfig,
} from './scheduler-config.ts';
import { originalCoefficients, type StepCoefficients } from './step-coefficients.ts';

/**
 * Ho et al. 2020, "Denoising Diffusion Probabilistic Models", with the config and the numerics of diffusers'
 * DDPMScheduler.
 *
 * @example
 * const scheduler = new DDPMScheduler({ variance_type: 'fixed_small' });
 * scheduler.setTimesteps(50);
 */
export class DDPMScheduler extends Scheduler<DDPMConfig> {
  readonly className = 'DDPMScheduler';

  /** @throws {ConfigError} when an option is wrong. */
  constructor(options: DDPMOptions = {}) {
    super(parseSchedulerConfig('DDPMScheduler', ddpmConfigSchema, options));
  }

  /** From a parsed `scheduler_config.json`. @throws {ConfigError} when a value is wrong. */
  static fromConfig(json: unknown): DDPMScheduler {
    return new DDPMScheduler(parseSchedulerConfig('DDPMScheduler', ddpmConfigSchema, json));
  }

  /**
   * From a saved pipeline folder or a Hub id, of this scheduler or of another one of diffusers: keys that it does not
   * have are left out.
   *
   * @throws {ConfigError} when the config is missing or wrong.
   * @throws {HubError} when it cannot be downloaded.
   * @example
   * const noise_scheduler = await DDPMScheduler.from_pretrained('google/ddpm-cifar10-32');
   */
  static async from_pretrained(model: string, options: PretrainedOptions = {}): Promise<DDPMScheduler> {
    const folder = await openPretrained(model, { ...options, require: [] });
    return DDPMScheduler.fromConfig(folder.schedulerConfig);
  }

  /** Whether the step at `timestep` adds noise: all but the last. */
  needsNoise(timestep: number): boolean {
    return timestep > 0;
  }

  stepCoefficients(timestep: number): StepCoefficients | null {
    if (this.config.thresholding || this.learnsVariance) return null;
    return this.coefficients(timestep);
  }

  /** @throws {InvalidArgumentError} when sizes do not fit, or noise or `sample_shape` is missing where needed. */
  step(
    modelOutput: Float32Array,
    timestep: number,
    sample: Float32Array,
    options: StepOptions = {},
  ): StepOutput {
    const coefficients = this.coefficients(timestep);
    if (!this.learnsVariance) return this.stepWith(coefficients, modelOutput, sample, options);
    const { mean, variance } = splitChannels(modelOutput, sample.length, options.sample_shape);
    const { prev_sample, pred_original_sample } = this.stepWith(coefficients, mean, sample, options);
    if (!this.needsNoise(timestep)) return { prev_sample, pred_original_sample };
    const deviation = this.learnedDeviation(timestep, variance);
    const { noise } = options;
    if (noise?.length !== sample.length) {
      throw new InvalidArgumentError(
        `this step needs ${sample.length} values of noise, got ${noise?.length ?? 'none'}`,
      );
    }
    return {
      prev_sample: prev_sample.map(
        (x, i) => x + Math.fround((deviation[i] as number) * (noise[i] as number)),
      ),
      pred_original_sample,
    };
  }

  private get learnsVariance(): boolean {
    return this.config.variance_type === 'learned' || this.config.variance_type === 'learned_range';
  }

  /** Posterior mean, eq. 7 of Ho et al., written in the predicted clean sample. */
  private coefficients(timestep: number): StepCoefficients {
    const { alphaBar, alphaBarPrevious, alpha, beta } = this.alphasAround(timestep);
    const original = originalCoefficients(this.config.prediction_type, alphaBar);
    return {
      originalFromSample: Math.fround(original.fromSample),
      originalFromOutput: Math.fround(original.fromOutput),
      clip: this.clipLimit,
      fromOriginal: Math.fround((Math.sqrt(alphaBarPrevious) * beta) / (1 - alphaBar)),
      fromSample: Math.fround((Math.sqrt(alpha) * (1 - alphaBarPrevious)) / (1 - alphaBar)),
      fromOutput: 0,
      fromNoise:
        this.needsNoise(timestep) && !this.learnsVariance ? Math.fround(this.fixedDeviation(timestep)) : 0,
    };
  }

  private alphasAround(timestep: number) {
    const alphaBar = this.alphaBarAt(timestep);
    const previous = this.previousTimestep(timestep);
    const alphaBarPrevious = previous >= 0 ? this.alphaBarAt(previous) : 1;
    const alpha = alphaBar / alphaBarPrevious;
    return { alphaBar, alphaBarPrevious, alpha, beta: 1 - alpha };
  }

  private previousTimestep(timestep: number): number {
    if (this.numInferenceSteps === undefined) return timestep - 1;
    const index = this.timesteps.indexOf(timestep);
    if (index < 0)
      throw new InvalidArgumentError(`timestep ${timestep} is not among the timesteps set by setTimesteps`);
    return this.timesteps[index + 1] ?? -1;
  }

  /** beta-tilde of eq. 7, kept above 1e-20 because its logarithm may be taken. */
  private posteriorVariance(timestep: number): number {
    const { alphaBar, alphaBarPrevious, beta } = this.alphasAround(timestep);
    return Math.max(((1 - alphaBarPrevious) / (1 - alphaBar)) * beta, 1e-20);
  }

  private fixedDeviation(timestep: number): number {
    const large =
      this.config.variance_type === 'fixed_large' || this.config.variance_type === 'fixed_large_log';
    return Math.sqrt(large ? this.alphasAround(timestep).beta : this.posteriorVariance(timestep));
  }

  /** Nichol & Dhariwal 2021, eq. 15: between log beta-tilde and log beta; or the output itself as variance. */
  private learnedDeviation(timestep: number, output: Float32Array): Float32Array {
    if (this.config.variance_type === 'learned') return output.map(Math.sqrt);
    const low = Math.log(this.posteriorVariance(timestep));
    const high = Math.log(this.alphasAround(timestep).beta);
    return output.map((value) => {
      const fraction = (value + 1) / 2;
      return Math.exp(0.5 * (fraction * high + (1 - fraction) * low));
    });
  }
}

/** A learned variance doubles the channels: [batch, 2 C, ...] holds the mean part, then the variance part. */
function splitChannels(output: Float32Array, sampleLength: number, shape: readonly number[] | undefined) {
  const batch = shape?.[0];
  if (batch === undefined || output.length !== 2 * sampleLength) {
    throw new InvalidArgumentError(
      `a learned variance needs the option sample_shape: [batch, channels, ...] and an output of ${2 * sampleLength} values; got ${output.length} values${batch === undefined ? ' and no sample_shape' : ''}`,
    );
  }
  const size = sampleLength / batch;
  const mean = new Float32Array(sampleLength);
  const variance = new Float32Array(sampleLength);
  for (let i = 0; i < batch; i++) {
    mean.set(output.subarray(2 * i * size, (2 * i + 1) * size), i * size);
    variance.set(output.subarray((2 * i + 1) * size, (2 * i + 2) * size), i * size);
  }
  return { mean, variance };
}
