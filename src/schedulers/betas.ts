/** How the variances of the forward process grow with t; diffusers' names. */
export const BETA_SCHEDULES = ['linear', 'scaled_linear', 'squaredcos_cap_v2', 'sigmoid'] as const;
export type BetaSchedule = (typeof BETA_SCHEDULES)[number];

export interface BetaOptions {
  readonly beta_schedule: BetaSchedule;
  readonly beta_start: number;
  readonly beta_end: number;
  readonly num_train_timesteps: number;
  readonly trained_betas?: readonly number[] | null | undefined;
}

const { fround } = Math;

/** The betas in float32, with the roundings of diffusers' torch code. */
export function makeBetas(options: BetaOptions): Float32Array {
  const { beta_start, beta_end, num_train_timesteps: count } = options;
  if (options.trained_betas) return Float32Array.from(options.trained_betas);
  switch (options.beta_schedule) {
    case 'linear':
      return linspace(beta_start, beta_end, count);
    case 'scaled_linear':
      return linspace(Math.sqrt(beta_start), Math.sqrt(beta_end), count).map((root) => root * root);
    case 'squaredcos_cap_v2':
      return squaredCosine(count);
    case 'sigmoid':
      return linspace(-6, 6, count).map(
        (x) => fround(1 / (1 + Math.exp(-x))) * fround(beta_end - beta_start) + beta_start,
      );
  }
}

/** Nichol & Dhariwal 2021, eq. 17: abar(t) = cos^2((t + 0.008) / 1.008 pi/2), beta capped at 0.999. */
function squaredCosine(count: number): Float32Array {
  const alphaBar = (t: number) => Math.cos((((t + 0.008) / 1.008) * Math.PI) / 2) ** 2;
  return Float32Array.from({ length: count }, (_, i) =>
    Math.min(1 - alphaBar((i + 1) / count) / alphaBar(i / count), 0.999),
  );
}

/** torch.linspace in float32: from both ends towards the middle. */
function linspace(start: number, end: number, count: number): Float32Array {
  const step = count > 1 ? fround(fround(fround(end) - fround(start)) / (count - 1)) : 0;
  return Float32Array.from({ length: count }, (_, i) =>
    i < count / 2 ? fround(start) + fround(step * i) : fround(end) - fround(step * (count - i - 1)),
  );
}

/** Cumulative products of 1 - beta; accumulated in float64 and stored in float32, as torch.cumprod does. */
export function cumulativeAlphas(betas: Float32Array): Float32Array {
  let product = 1;
  return betas.map((beta) => {
    product *= fround(1 - beta);
    return product;
  });
}

/**
 * Rescales betas so that the last timestep has no signal left: Lin et al. 2023, "Common Diffusion Noise Schedules and
 * Sample Steps are Flawed", algorithm 1.
 */
export function rescaleZeroTerminalSnr(betas: Float32Array): Float32Array {
  const roots = cumulativeAlphas(betas).map(Math.sqrt);
  const first = roots[0] ?? 1;
  const last = roots.at(-1) ?? 0;
  const scale = fround(first / fround(first - last));
  const bars = roots.map((root) => fround(fround(root - last) * scale) ** 2);
  return bars.map((bar, i) => 1 - (i === 0 ? bar : fround(bar / (bars[i - 1] as number))));
}
