// A model that is exact: for values that are Gaussian, the predicted noise and the solution of the reverse process are known.
// What a solver is off by is then its own error, and how it falls with the number of steps is the solver's order.
import { schedulerFromConfig } from '../../src/schedulers/index.ts';

/** The variances of the data, one a value. */
const VARIANCES = [0.1, 0.3, 2];

/** A solver as it is measured. */
export interface SolverCase {
  readonly name: string;
  readonly config: Readonly<Record<string, unknown>>;
  /** The order that the method has by its paper. */
  readonly known: number;
  /** The order that diffusers' numerics have, where it is another one; default `known`. */
  readonly shown?: number | undefined;
  /** Entries of `timesteps` that make one step of the method, for the solvers in single steps; default 1. */
  readonly group?: number | undefined;
  /** Steps over which the order is measured: errors there are neither large nor of float32's size. */
  readonly steps: readonly number[];
}

const MANY = [60, 120, 240];
/** For orders that reach the rounding of float32 soon. */
const FEW = [15, 30, 60];

/** Evenly spaced sigma^(1/7), of which the last comes twice: the sample there is exact to the solver's order. */
const karras = {
  use_karras_sigmas: true,
  final_sigmas_type: 'sigma_min',
  lower_order_final: false,
  beta_start: 0.0001,
  beta_end: 0.02,
};
/** Solvers in timesteps have whole ones, so that a finer schedule is needed for many steps. */
const FINE = 3840;
const timesteps = {
  num_train_timesteps: FINE,
  beta_start: 0.1 / FINE,
  beta_end: 20 / FINE,
  timestep_spacing: 'leading',
  clip_sample: false,
};

const multistep = { ...karras, _class_name: 'DPMSolverMultistepScheduler' };
const singlestep = { ...karras, _class_name: 'DPMSolverSinglestepScheduler' };
const unipc = { ...karras, _class_name: 'UniPCMultistepScheduler' };
const deis = { ...karras, _class_name: 'DEISMultistepScheduler' };

const dpmSolvers = (['dpmsolver++', 'dpmsolver'] as const).flatMap((algorithm_type): SolverCase[] => {
  const name = algorithm_type === 'dpmsolver' ? 'DPM' : 'DPM++';
  const several = (solver_order: number, more = {}) => ({ ...multistep, algorithm_type, solver_order, ...more });
  const single = (solver_order: number, more = {}) => ({ ...singlestep, algorithm_type, solver_order, ...more });
  const heun = { solver_type: 'heun' };
  return [
    { name: `${name} 1`, config: several(1), known: 1, steps: MANY },
    { name: `${name} 2M`, config: several(2), known: 2, steps: MANY },
    { name: `${name} 2M heun`, config: several(2, heun), known: 2, steps: MANY },
    // The second derivative counts half of what it should, in diffusers as here.
    { name: `${name} 3M`, config: several(3), known: 3, shown: 2, steps: [120, 240, 480] },
    { name: `${name} 1S`, config: single(1), known: 1, steps: MANY },
    { name: `${name} 2S`, config: single(2), known: 2, group: 2, steps: MANY },
    { name: `${name} 2S heun`, config: single(2, heun), known: 2, group: 2, steps: MANY },
    { name: `${name} 3S`, config: single(3), known: 3, group: 3, steps: FEW },
    { name: `${name} 3S heun`, config: single(3, heun), known: 3, group: 3, steps: FEW },
  ];
});

/** Every solver without fresh noise. */
export const solverCases: readonly SolverCase[] = [
  ...dpmSolvers,
  // The corrector adds one to the order of the predictor.
  { name: 'UniPC 1', config: { ...unipc, solver_order: 1 }, known: 2, steps: MANY },
  { name: 'UniPC 2', config: { ...unipc, solver_order: 2 }, known: 3, steps: [30, 60, 120] },
  { name: 'UniPC 2 bh1', config: { ...unipc, solver_order: 2, solver_type: 'bh1' }, known: 3, steps: [30, 60, 120] },
  { name: 'UniPC 2 noise', config: { ...unipc, solver_order: 2, predict_x0: false }, known: 3, steps: [30, 60, 120] },
  { name: 'UniPC 3', config: { ...unipc, solver_order: 3 }, known: 4, steps: [30, 60, 120] },
  { name: 'DEIS 1', config: { ...deis, solver_order: 1 }, known: 1, steps: MANY },
  { name: 'DEIS 2', config: { ...deis, solver_order: 2 }, known: 2, steps: MANY },
  { name: 'DEIS 3', config: { ...deis, solver_order: 3 }, known: 3, steps: MANY },
  { name: 'Euler', config: { ...karras, _class_name: 'EulerDiscreteScheduler' }, known: 1, steps: MANY },
  { name: 'Heun', config: { ...karras, _class_name: 'HeunDiscreteScheduler' }, known: 2, steps: MANY },
  { name: 'LMS', config: { ...karras, _class_name: 'LMSDiscreteScheduler' }, known: 4, steps: MANY },
  { name: 'DDIM', config: { ...timesteps, _class_name: 'DDIMScheduler' }, known: 1, steps: [64, 128, 256] },
  { name: 'PNDM', config: { ...timesteps, _class_name: 'PNDMScheduler' }, known: 2, steps: [64, 128, 256] },
  {
    name: 'PNDM, no Runge-Kutta',
    config: { ...timesteps, _class_name: 'PNDMScheduler', skip_prk_steps: true },
    known: 2,
    steps: [64, 128, 256],
  },
];

/**
 * The error after so many steps, relative to the standard deviation of what is solved for. The solution of the reverse process
 * keeps every value at the same number of standard deviations.
 */
export function errorAfter({ config, group = 1 }: SolverCase, steps: number): { error: number; evaluations: number } {
  const scheduler = schedulerFromConfig(config);
  const inTimesteps = config.timestep_spacing === 'leading';
  scheduler.setTimesteps(inTimesteps ? steps : group * steps + 1);
  // Near timestep 0 a schedule of timesteps is no smooth function of time: sigma grows as the root of t.
  const end = inTimesteps ? scheduler.timesteps.indexOf(FINE / 4) : (scheduler.stepStarts.at(-1) as number);
  const deviations = (entry: number) => {
    const { signal, noise } = scheduler.noiseLevel(entry);
    return VARIANCES.map((variance) => Math.sqrt(signal ** 2 * variance + noise ** 2));
  };
  let sample = Float32Array.from(deviations(0));
  scheduler.timesteps.slice(0, end).forEach((timestep, entry) => {
    const { noise } = scheduler.noiseLevel(entry);
    const deviation = deviations(entry);
    const epsilon = sample.map((x, i) => (noise * x) / (deviation[i] as number) ** 2);
    sample = scheduler.step(epsilon, timestep, sample).prev_sample.slice();
  });
  const squares = deviations(end).map((exact, i) => ((sample[i] as number) / exact - 1) ** 2);
  return { error: Math.sqrt(squares.reduce((sum, square) => sum + square, 0) / squares.length), evaluations: end };
}

/** How fast the error falls: minus the slope of its logarithm over that of the number of steps, by least squares. */
export function measuredOrder(solver: SolverCase): number {
  const x = solver.steps.map(Math.log);
  const y = solver.steps.map((steps) => Math.log(errorAfter(solver, steps).error));
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [meanX, meanY] = [mean(x), mean(y)];
  const covariance = mean(x.map((value, i) => (value - meanX) * ((y[i] as number) - meanY)));
  return -covariance / mean(x.map((value) => (value - meanX) ** 2));
}
