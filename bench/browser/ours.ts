import { isoLoss } from '../../src/losses/index.ts';
import { Engine } from '../../src/trainers/engines/engine.ts';
import { stepSchedule, stepSettings } from '../../src/trainers/step/settings.ts';
import { resolveTrainingArguments } from '../../src/trainers/training-arguments.ts';
import { batchesOf, type Contender, LAMBDA, LEARNING_RATE, model, parameters, scheduler } from './task.ts';

export async function ours(device: 'wasm' | 'webgpu', batch: number): Promise<Contender> {
  const args = resolveTrainingArguments({
    output_dir: 'unused',
    per_device_train_batch_size: batch,
    learning_rate: LEARNING_RATE,
  });
  const engine = await Engine.create(
    stepSettings({ model, loss: isoLoss({ lambda: LAMBDA }), noise_scheduler: scheduler }, args),
    { device: device === 'wasm' ? 'cpu' : device },
    new Map([['parameters', parameters]]),
    batchesOf(batch),
    stepSchedule(args, Number.MAX_SAFE_INTEGER),
  );
  return {
    async run(first, count) {
      let loss = Number.NaN;
      for (let done = 0; done < count; ) {
        const steps = Math.min(engine.maxStepsPerRun, count - done);
        loss = (await engine.run(first + done, steps)).at(-1)?.loss ?? Number.NaN;
        done += steps;
      }
      return loss;
    },
    close: () => engine.release(),
  };
}
