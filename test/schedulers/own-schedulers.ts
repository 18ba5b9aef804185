/** Schedulers as a user of the package writes them: what each solver differs in, and nothing else. */
import { Scheduler, type StepOutput } from '../../src/schedulers/index.ts';

/** The variance-exploding view of Karras et al. 2022: x = x_0 + sigma * noise, at fractional timesteps too. */
abstract class SigmaScheduler extends Scheduler {
  protected sigmas: number[] = [];
  /** The entry of `timesteps` that `step` is called for next. */
  protected index = 0;

  override setTimesteps(count = 10): void {
    const last = this.config.num_train_timesteps - 1;
    this.timesteps = Array.from({ length: count }, (_, i) => last - ((i + 0.25) * last) / (count + 1));
    this.sigmas = [...this.timesteps.map((t) => this.sigmaAt(t)), 0];
    this.init_noise_sigma = Math.hypot(this.sigmas[0] ?? 0, 1);
    this.index = 0;
  }

  override scaleModelInput(sample: Float32Array, timestep: number): Float32Array {
    return sample.map((x) => x / Math.hypot(this.sigmaAt(timestep), 1));
  }

  private sigmaAt(timestep: number): number {
    const sigma = (t: number) => Math.sqrt(1 / (this.alphasCumprod[t] ?? 1) - 1);
    const floor = Math.floor(timestep);
    return sigma(floor) + (timestep - floor) * (sigma(Math.ceil(timestep)) - sigma(floor));
  }
}

export class EulerScheduler extends SigmaScheduler {
  readonly className = 'EulerScheduler';

  step(epsilon: Float32Array, _timestep: number, sample: Float32Array): StepOutput {
    const [now = 0, next = 0] = this.sigmas.slice(this.index++);
    return { prev_sample: sample.map((x, i) => x + (next - now) * (epsilon[i] ?? 0)) };
  }
}

/** Two evaluations a step: every timestep but the first comes twice, as in diffusers' HeunDiscreteScheduler. */
export class HeunScheduler extends SigmaScheduler {
  readonly className = 'HeunScheduler';
  private first: { sample: Float32Array; slope: Float32Array } | undefined;

  override setTimesteps(count = 10): void {
    super.setTimesteps(count);
    const twice = <T>(values: readonly T[]) => values.flatMap((value, i) => (i === 0 ? [value] : [value, value]));
    this.timesteps = twice(this.timesteps);
    this.sigmas = [...twice(this.sigmas.slice(0, -1)), 0];
    this.first = undefined;
  }

  step(epsilon: Float32Array, _timestep: number, sample: Float32Array): StepOutput {
    const [now = 0, next = 0] = this.sigmas.slice(this.index++);
    if (!this.first) {
      // To the next sigma with the slope here; the last step stays Euler's, because there is no slope at 0.
      if (next > 0) this.first = { sample, slope: epsilon };
      return { prev_sample: sample.map((x, i) => x + (next - now) * (epsilon[i] ?? 0)) };
    }
    const { sample: start, slope } = this.first;
    this.first = undefined;
    const width = now - (this.sigmas[this.index - 2] ?? 0);
    return {
      prev_sample: start.map((x, i) => x + (width * ((slope[i] ?? 0) + (epsilon[i] ?? 0))) / 2),
    };
  }
}

/** Adams-Bashforth of order 2, which looks back at the last slope: a history, changed in place. */
export class MultistepScheduler extends SigmaScheduler {
  readonly className = 'MultistepScheduler';
  private readonly history: { sigma: number; slope: Float32Array }[] = [];

  override setTimesteps(count = 10): void {
    super.setTimesteps(count);
    this.history.length = 0;
  }

  step(epsilon: Float32Array, _timestep: number, sample: Float32Array): StepOutput {
    const [now = 0, next = 0] = this.sigmas.slice(this.index++);
    const last = this.history.pop();
    this.history.push({ sigma: now, slope: epsilon });
    const ratio = last ? (next - now) / (now - last.sigma) / 2 : 0;
    return {
      prev_sample: sample.map((x, i) => {
        const slope = epsilon[i] ?? 0;
        return x + (next - now) * (slope + ratio * (slope - (last?.slope[i] ?? slope)));
      }),
    };
  }
}
