import path from 'node:path';
import { readTrainingCurve } from '../../experiments/jobs/training.ts';
import { curvePlot, writePlot } from '../../plots/index.ts';
import type { TrainerCallback } from '../../trainers/trainer-callback.ts';
import { printWarning } from './progress.ts';

/** Says which checkpoints cannot be continued. */
export const checkpointWarnings: TrainerCallback = {
  onCheckpointSkipped: ({ dir, error }) => printWarning(`${dir} is damaged and left out: ${error.message}`),
};

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
