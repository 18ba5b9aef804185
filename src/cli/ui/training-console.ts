import type { TrainerCallback } from '../../trainers/trainer-callback.ts';
import { type Progress, progressBar } from './progress.ts';

/** Shows a run: loss, isotropy, speed and time left. */
export function trainingConsole(): TrainerCallback {
  let bar: Progress | undefined;
  return {
    onCheckpointSkipped: ({ dir, error }) => {
      process.stderr.write(`warning: ${dir} is damaged and left out: ${error.message}\n`);
    },
    onTrainBegin: (state) => {
      bar = progressBar('train', state.max_steps, state.global_step);
    },
    onStep: ({ global_step, max_steps, epoch, steps_per_second }, { loss, isotropy }) => {
      const speed =
        steps_per_second >= 10 ? `${steps_per_second.toFixed(0)}` : `${steps_per_second.toPrecision(2)}`;
      bar?.update(
        global_step,
        `step ${global_step}/${max_steps}, epoch ${epoch.toFixed(1)} | loss ${loss.toFixed(4)} isotropy ${isotropy.toFixed(3)} | ${speed} steps/s`,
      );
    },
    onTrainEnd: () => bar?.stop(),
  };
}
