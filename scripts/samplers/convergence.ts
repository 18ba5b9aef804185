/**
 * `npx tsx scripts/samplers/convergence.ts`: measures the order of every solver on Gaussian data, and writes the table and the
 * plots of docs/samplers.md.
 */
import { markdownTable } from '../../src/experiments/text.ts';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { curvePlot, svgToPng } from '../../src/plots/index.ts';
import { documentPath, writeSection } from './document.ts';
import { errorAfter, measuredOrder, solverCases } from './gaussian.ts';

const PLOTTED_STEPS = [16, 32, 64, 128, 256];
const PLOTS = [
  {
    file: 'order-log-snr.png',
    title: 'Solvers in log-SNR, on Gaussian data',
    names: ['DPM++ 1', 'DPM++ 2M', 'DPM++ 3M', 'DPM++ 2S', 'DPM++ 3S', 'UniPC 2', 'DEIS 3'],
  },
  {
    file: 'order-sigma.png',
    title: 'Solvers in sigma and in timesteps, on Gaussian data',
    names: ['Euler', 'Heun', 'LMS', 'DDIM', 'PNDM'],
  },
];

for (const { file, title, names } of PLOTS) {
  const series = solverCases
    .filter(({ name }) => names.includes(name))
    .map((solver) => {
      const measured = PLOTTED_STEPS.map((steps) => errorAfter(solver, Math.round(steps / (solver.group ?? 1))));
      return { name: solver.name, x: measured.map((one) => one.evaluations), y: measured.map((one) => one.error) };
    });
  const labels = { x_label: 'evaluations of the model', y_label: 'relative error', log_x: true, log_y: true };
  const svg = await curvePlot({ series, title, ...labels });
  await writeFileAtomic(documentPath(`images/${file}`), await svgToPng(svg));
}

const rows = solverCases.map((solver) => [
  solver.name,
  String(solver.known),
  measuredOrder(solver).toFixed(2),
  solver.steps.join(', '),
  solver.steps.map((steps) => errorAfter(solver, steps).error.toExponential(1)).join(', '),
]);
const header = ['solver', 'order by its paper', 'measured', 'steps', 'relative error'];
await writeSection('samplers.md', 'order of the solvers', markdownTable(header, rows));
