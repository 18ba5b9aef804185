import { fileURLToPath } from 'node:url';
import { isoLoss } from '../src/losses/index.ts';
import { ConditionalDense } from '../src/models/conditional-dense.ts';
import { initialVector } from '../src/models/model.ts';
import { RandomStream, STREAM } from '../src/random/random-stream.ts';
import { DDPMScheduler } from '../src/schedulers/ddpm.ts';
import { BatchStream } from '../src/trainers/data/batch-stream.ts';
import { pointSamples } from '../src/trainers/data/samples.ts';
import { Engine } from '../src/trainers/engines/engine.ts';
import { stepSchedule, stepSettings } from '../src/trainers/step/settings.ts';
import { resolveTrainingArguments } from '../src/trainers/training-arguments.ts';
import { type Measurement, measure, printRatio, requirePython, runPairs, startReference } from './harness.ts';

const SAMPLES = 10_000;
const LEARNING_RATE = 1e-3;

/**
 * Whole training steps of the paper's 2-D network (drawing the batch and its noise, forward, Iso loss, backward, Adam)
 * at batch 2,048 and 128, against torch eager with its best thread count and optimizer form. The last line is batch 128.
 */
export async function run(): Promise<void> {
  requirePython(['torch']);
  for (const [batch, steps] of [
    [2048, 100],
    [128, 600],
  ] as const) {
    await compare(batch, steps);
  }
}

async function compare(batch: number, steps: number): Promise<void> {
  const reference = startReference(fileURLToPath(new URL('./step_reference.py', import.meta.url)));
  const engine = await createEngine(batch);
  let done = 0;
  try {
    console.log(`torch: ${JSON.stringify(await reference.request({ kind: 'setup', batch }))}`);
    const { ratio, oursSeconds, referenceSeconds } = await runPairs({
      name: `step batch ${batch}`,
      pairs: 7,
      warmup: 2,
      ours: () =>
        measure(async () => {
          for (const end = done + steps; done < end; done += 100) await engine.run(done, 100);
        }),
      reference: () => reference.request<Measurement>({ kind: 'steps', steps }),
    });
    const microseconds = (seconds: number) => `${((seconds * 1e6) / steps).toFixed(0)} us`;
    console.log(`batch ${batch}: ours ${microseconds(oursSeconds)} a step, torch ${microseconds(referenceSeconds)}`);
    printRatio(batch === 128 ? 'step' : `step-${batch}`, ratio);
  } finally {
    reference.close();
    await engine.release();
  }
}

function createEngine(batch: number): Promise<Engine> {
  const model = new ConditionalDense();
  const uniform = new RandomStream(0, STREAM.dataset);
  const data = Float32Array.from({ length: SAMPLES * 2 }, () => uniform.uniform() * 2 - 1);
  const scaler = { kind: 'none' as const, offset: [], scale: [] };
  const samples = pointSamples({ data, count: SAMPLES, dims: 2, name: 'uniform', scaler });
  const args = resolveTrainingArguments({
    output_dir: 'unused',
    per_device_train_batch_size: batch,
    learning_rate: LEARNING_RATE,
  });
  return Engine.create(
    stepSettings({ model, loss: isoLoss({ lambda: 0.1 }), noise_scheduler: new DDPMScheduler() }, args),
    { device: 'cpu' },
    new Map([['parameters', initialVector(model, 0)]]),
    new BatchStream(samples, { batchSize: batch, trainTimesteps: 1000, seed: 0 }),
    stepSchedule(args, Number.MAX_SAFE_INTEGER),
  );
}
