import type { ImageCommands } from '../messages.ts';
import { ImageRun } from './image-run.ts';
import { serve } from './serve.ts';

// A model of images in a worker of its own. The build with WebGPU takes it where there is a GPU.

/** What the build fills in. */
declare const USES_WEBGPU: boolean;

let run: ImageRun | undefined;

function begun(): ImageRun {
  if (run) return run;
  throw new Error('There is no model yet.');
}

serve<ImageCommands>({
  async begin(setup) {
    const device = USES_WEBGPU ? 'webgpu' : 'cpu';
    const next = await ImageRun.begin(setup, device);
    await run?.release();
    run = next;
    return device;
  },
  train: ({ steps }) => begun().training.train(steps),
  change(changes) {
    begun().training.change(changes);
    return null;
  },
  draw: ({ first, count, steps }) => begun().draw(first, count, steps),
});
