// What a training run shows: a progress bar, and plots of its log. Both take every name that is logged.
import path from 'node:path';
import { readTrainingCurve } from '../../experiments/jobs/training.ts';
import { curvePlot, writePlot } from '../../plots/index.ts';
import type { TrainerCallback } from '../../trainers/trainer-callback.ts';
import { type Progress, progressBar } from './progress.ts';

/** Shows a run: speed, time left, and all that is logged. */
export function trainingConsole(): TrainerCallback {
  let bar: Progress | undefined;
  return {
    onCheckpointSkipped: ({ dir, error }) => {
      process.stderr.write(`warning: ${dir} is damaged and left out: ${error.message}\n`);
    },
    onTrainBegin: (state) => {
      bar = progressBar('train', state.max_steps, state.global_step);
    },
    onStep: ({ global_step, max_steps, epoch, steps_per_second }, metrics) => {
      const speed = steps_per_second >= 10 ? `${steps_per_second.toFixed(0)}` : `${steps_per_second.toPrecision(2)}`;
      const where = `step ${global_step}/${max_steps}, epoch ${epoch.toFixed(1)}`;
      bar?.update(global_step, `${where} | ${speed} steps/s | ${metricsText(metrics)}`);
    },
    onTrainEnd: () => bar?.stop(),
  };
}

/** "loss 0.5123, base_loss 0.5017, ...": the loss first, then its terms, as they are logged. */
export function metricsText(metrics: Readonly<Record<string, number>>): string {
  return Object.entries(metrics)
    .map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`)
    .join(', ');
}

/**
 * Draws what a run logged, the part before a resumption included: all losses in one plot, `loss`, and everything else
 * in a plot of its own name.
 */
export async function writeTrainingPlots(outputDir: string, title: string): Promise<string[]> {
  const { step, ...curves } = await readTrainingCurve(outputDir);
  if (step.length === 0) return [];
  const isLoss = (name: string) => /(^|_)loss$/.test(name);
  const names = Object.keys(curves);
  const plots = [
    { name: 'loss', shown: names.filter(isLoss) },
    ...names.filter((name) => !isLoss(name)).map((name) => ({ name, shown: [name] })),
  ];
  const files: string[] = [];
  for (const { name, shown } of plots) {
    const svg = await curvePlot({
      series: shown.map((curve) => ({ name: curve, x: step, y: curves[curve] ?? [] })),
      title: `${title}: ${name}`,
      x_label: 'step',
      y_label: name,
    });
    files.push(...(await writePlot(path.join(outputDir, name.replace(/[^\w-]/g, '-')), svg)));
  }
  return files;
}
