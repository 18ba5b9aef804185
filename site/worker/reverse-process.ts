import type { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { DPMSolverMultistepScheduler } from '../../src/schedulers/solvers/dpm-solver.ts';
import type { Frames } from '../messages.ts';
import type { Denoiser } from './denoiser.ts';

/**
 * DPM-Solver++ from noise to samples.
 *
 * @param options.scale what the predicted noise is multiplied by. @returns the noise first, the samples last.
 */
export async function reverseProcess(
  denoiser: Denoiser,
  { config }: DDPMScheduler,
  noise: Float32Array,
  { steps, scale = 1 }: { readonly steps: number; readonly scale?: number },
): Promise<Frames> {
  const solver = new DPMSolverMultistepScheduler({ ...config, timestep_spacing: 'trailing' });
  solver.setTimesteps(steps);
  let x = noise;
  const frames = [x];
  for (const timestep of solver.timesteps) {
    const epsilon = await denoiser.predict(x, timestep);
    x = solver.step(scale === 1 ? epsilon : epsilon.map((value) => scale * value), timestep, x).prev_sample;
    frames.push(x);
  }
  return { timesteps: [...solver.timesteps, -1], frames };
}
