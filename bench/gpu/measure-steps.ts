import type { UNet2DModel } from '../../src/models/index.ts';
import type { ConcreteDevice } from '../../src/runtime/device.ts';
import { median } from '../harness.ts';
import { createEngine } from '../unet-step.ts';

export interface StepTimes {
  /** Of one step more in a run. */
  readonly stepMs: number;
  /** Of a run beside its steps: the copies of the state to the device and back. */
  readonly runMs: number;
}

const ROUNDS = 3;

/** What a step more takes: a run of 2n steps less one of n, over n. @param timed runs so many steps, and gives milliseconds. */
export async function marginalTimes(timed: (count: number) => Promise<number>, steps: number): Promise<StepTimes> {
  const rounds: StepTimes[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const short = await timed(steps);
    const stepMs = ((await timed(2 * steps)) - short) / steps;
    rounds.push({ stepMs, runMs: Math.max(0, short - steps * stepMs) });
  }
  return { stepMs: median(rounds.map(({ stepMs }) => stepMs)), runMs: median(rounds.map(({ runMs }) => runMs)) };
}

/** Times our training steps. @param steps of the shorter run; the longer one has twice as many. */
export async function measureSteps(
  model: UNet2DModel,
  device: ConcreteDevice,
  batch: number,
  steps: number,
  mixed_precision?: 'no' | 'fp16',
): Promise<StepTimes> {
  const engine = await createEngine(model, batch, device, mixed_precision);
  let done = 0;
  const timed = async (count: number) => {
    const start = performance.now();
    for (let left = count; left > 0; ) {
      const size = Math.min(left, engine.maxStepsPerRun);
      await engine.run(done, size);
      done += size;
      left -= size;
    }
    return performance.now() - start;
  };
  // The first run chooses kernels, and the second one may still grow memory.
  for (const count of [1, 1, steps]) await timed(count);
  const times = await marginalTimes(timed, steps);
  await engine.release();
  return times;
}
