/**
 * Times our steps in a process of its own, because TF32 is a setting of the process: `tsx bench/gpu/ours.ts SETTINGS`
 * with the settings as JSON. The last line that it prints is the result as JSON.
 */
import { UNet2DModel, unet2DPreset } from '../../src/models/index.ts';
import { configureRuntime } from '../../src/runtime/configure.ts';
import type { ConcreteDevice } from '../../src/runtime/device.ts';
import { median } from '../harness.ts';
import { createEngine } from '../unet-step.ts';

export interface OurSettings {
  readonly device: ConcreteDevice;
  readonly batch: number;
  /** Steps of the shorter run. */
  readonly steps: number;
  readonly tf32: boolean;
  /** Default 'no'. */
  readonly mixed_precision?: 'no' | 'fp16';
}

export interface OurTimes {
  /** Of one step more in a run. */
  readonly stepMs: number;
  /** Of a run beside its steps: the copies of the state to the device and back. */
  readonly runMs: number;
}

const ROUNDS = 3;

async function measure({ device, batch, steps, tf32, mixed_precision }: OurSettings): Promise<OurTimes> {
  configureRuntime({ tf32 });
  const model = new UNet2DModel(unet2DPreset('ddpm-cifar10'));
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
  const rounds: OurTimes[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const short = await timed(steps);
    const stepMs = ((await timed(2 * steps)) - short) / steps;
    rounds.push({ stepMs, runMs: Math.max(0, short - steps * stepMs) });
  }
  await engine.release();
  return { stepMs: median(rounds.map(({ stepMs }) => stepMs)), runMs: median(rounds.map(({ runMs }) => runMs)) };
}

console.log(JSON.stringify(await measure(JSON.parse(process.argv[2] ?? '{}'))));
