import type { StepMetrics, TrainerCallback } from '../../trainers/trainer-callback.ts';
import { type Progress, progressBar } from './progress.ts';

/** Shows a run: the loss and its terms, speed and time left. */
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
      const speed =
        steps_per_second >= 10 ? `${steps_per_second.toFixed(0)}` : `${steps_per_second.toPrecision(2)}`;
      bar?.update(
        global_step,
        `step ${global_step}/${max_steps}, epoch ${epoch.toFixed(1)} | ${metricsText(metrics)} | ${speed} steps/s`,
      );
    },
    onTrainEnd: () => bar?.stop(),
  };
}

/** `loss 0.1234 base_loss 0.12 isotropy 0.987`: all that a step reported, but the learning rate, which is known. */
export function metricsText({ learning_rate: _, ...metrics }: StepMetrics): string {
  return Object.entries(metrics)
    .map(([name, value]) => `${name} ${value.toPrecision(4)}`)
    .join(' ');
}
