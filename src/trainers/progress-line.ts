import { type Progress, progressBar } from '#terminal/progress';
import type { TrainerCallback } from './trainer-callback.ts';

/** Shows a run on stderr: speed, time left, and all that is logged. `stop` takes it away, also after an error. */
export function progressLine(): TrainerCallback & { stop(): void } {
  let bar: Progress | undefined;
  return {
    onTrainBegin: (state) => {
      bar = progressBar('train', state.max_steps, state.global_step);
    },
    onStep: ({ global_step, max_steps, epoch, steps_per_second }, metrics) => {
      const speed = steps_per_second >= 10 ? `${steps_per_second.toFixed(0)}` : `${steps_per_second.toPrecision(2)}`;
      const where = `step ${global_step}/${max_steps}, epoch ${epoch.toFixed(1)}`;
      bar?.update(global_step, `${where} | ${speed} steps/s | ${metricsText(metrics)}`);
    },
    stop: () => bar?.stop(),
  };
}

/** "loss 0.5123, base_loss 0.5017, ...": the loss first, then its terms, as they are logged. */
export function metricsText(metrics: Readonly<Record<string, number>>): string {
  return Object.entries(metrics)
    .map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`)
    .join(', ');
}
