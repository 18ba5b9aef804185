import type { Commands } from '../messages.ts';
import { ModelRun } from './model-run.ts';
import { serve } from './serve.ts';

// A model of points in a worker of its own.

let run: ModelRun | undefined;

function begun(): ModelRun {
  if (run) return run;
  throw new Error('There is no model yet.');
}

serve<Commands>({
  async begin(setup) {
    const next = await ModelRun.begin(setup);
    await run?.release();
    run = next;
    return { real: run.real };
  },
  train: ({ steps }) => begun().training.train(steps),
  change(changes) {
    begun().training.change(changes);
    return null;
  },
  draw: (setup) => begun().draw(setup),
  measure: (setup) => begun().measure(setup),
  reverse: (setup) => begun().reverse(setup),
  forward: ({ count }) => begun().forward(count),
  isotropy: () => begun().isotropy(),
  async save({ format }) {
    const { savedModel } = await import('./files.ts');
    return savedModel(begun(), format);
  },
  async load(file) {
    const { loadedWeights } = await import('./files.ts');
    await begun().training.restart(loadedWeights(begun(), file));
    return null;
  },
});
