import { expect, it } from 'vitest';
import { errorAfter, measuredOrder, solverCases } from '../../scripts/samplers/gaussian.ts';
import { schedulers } from '../../src/schedulers/registry.ts';

// On Gaussian data the predicted noise and the solution are exact, so that the slope is the solver's own. It is not quite the
// order at finite numbers of steps; the next order is at least 1 away.
it.each(solverCases.map((solver) => [solver.name, solver.shown ?? solver.known, solver] as const))(
  '%s converges at order %d',
  (_name, order, solver) => {
    expect(Math.abs(measuredOrder(solver) - order)).toBeLessThan(0.25);
  },
);

it('with DPM-Solver++ 2M, half the step is about a quarter of the error', () => {
  const solver = solverCases.find(({ name }) => name === 'DPM++ 2M');
  const errors = [30, 60, 120, 240].map((steps) => (solver ? errorAfter(solver, steps).error : Number.NaN));
  for (const [i, error] of errors.slice(1).entries()) {
    const factor = (errors[i] as number) / error;
    expect(factor).toBeGreaterThan(3.7);
    expect(factor).toBeLessThan(4.4);
  }
});

it('every solver without fresh noise is among them', () => {
  const measured = new Set(solverCases.map(({ config }) => String(config._class_name)));
  // DDIM backwards goes the other way; its error is that of an inversion.
  const others = ['DDPMScheduler', 'EulerAncestralDiscreteScheduler', 'DDIMInverseScheduler'];
  expect([...measured, ...others].sort()).toEqual(schedulers.names().sort());
});
