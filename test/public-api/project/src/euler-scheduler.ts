// Euler's method over the standard deviations of the noise (Karras et al. 2022, algorithm 2 without churn).
import { Scheduler } from 'iso-diffusion';

export class EulerScheduler extends Scheduler {
  readonly className = 'EulerScheduler';
  private sigmas: number[] = [];

  override setTimesteps(count = 50): void {
    const last = this.config.num_train_timesteps - 1;
    this.timesteps = Array.from({ length: count }, (_, i) => last - (i * last) / Math.max(count - 1, 1));
    this.sigmas = [...this.timesteps.map((timestep) => this.sigmaAt(timestep)), 0];
    this.init_noise_sigma = Math.hypot(this.sigmas[0] ?? 0, 1);
  }

  override scaleModelInput(sample: Float32Array, timestep: number): Float32Array {
    const scale = 1 / Math.hypot(this.sigmaAt(timestep), 1);
    return sample.map((x) => x * scale);
  }

  step(epsilon: Float32Array, timestep: number, sample: Float32Array): { prev_sample: Float32Array } {
    const i = this.timesteps.indexOf(timestep);
    const change = (this.sigmas[i + 1] ?? 0) - (this.sigmas[i] ?? 0);
    return { prev_sample: sample.map((x, j) => x + change * (epsilon[j] ?? 0)) };
  }

  /** Between whole timesteps by linear interpolation. */
  private sigmaAt(timestep: number): number {
    const sigma = (t: number) => Math.sqrt(1 / (this.alphasCumprod[t] ?? 1) - 1);
    const below = sigma(Math.floor(timestep));
    return below + (timestep % 1) * (sigma(Math.ceil(timestep)) - below);
  }
}
