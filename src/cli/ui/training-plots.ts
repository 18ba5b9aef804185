import path from 'node:path';
import { type CurveSeries, curvePlot, writePlot } from '../../plots/index.ts';
import { readLoggedCurves } from '../../trainers/logging/run-loggers.ts';

/**
 * Draws everything that a run logged: `loss` together with whatever else is called a loss, such as `base_loss`, and each
 * other number in a plot of its own, named like it.
 */
export async function writeTrainingPlots(outputDir: string, title: string): Promise<string[]> {
  const { step, curves } = await readLoggedCurves(outputDir);
  if (step.length === 0) return [];
  const plots = new Map<string, CurveSeries[]>();
  for (const [name, y] of curves) {
    const plot = name.endsWith('_loss') ? 'loss' : name;
    plots.set(plot, [...(plots.get(plot) ?? []), { name, x: step, y }]);
  }
  const files: string[] = [];
  for (const [name, series] of plots) {
    const options = { series, title: `${title}: ${name}`, x_label: 'step', y_label: name };
    // A term may have '/' in its name, as TensorBoard groups them.
    const file = path.join(outputDir, name.replaceAll('/', '-'));
    files.push(...(await writePlot(file, await curvePlot(options))));
  }
  return files;
}
