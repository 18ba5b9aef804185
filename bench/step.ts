import { fileURLToPath } from 'node:url';
import { packBucket, planFlatBuckets } from '../src/graph/flat-vectors.ts';
import { isoLoss } from '../src/losses/index.ts';
import { ConditionalDense } from '../src/models/conditional-dense.ts';
import { initialParameters } from '../src/models/model.ts';
import { RandomStream, STREAM } from '../src/random/random-stream.ts';
import { DDPMScheduler } from '../src/schedulers/ddpm.ts';
import { BatchSource } from '../src/trainers/data/batch-source.ts';
import { pointSource } from '../src/trainers/data/sample-source.ts';
import { TrainingEngine } from '../src/trainers/engines/training-engine.ts';
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
    console.log(
      `batch ${batch}: ours ${microseconds(oursSeconds)} a step, torch ${microseconds(referenceSeconds)}`,
    );
    printRatio(batch === 128 ? 'step' : `step-batch-${batch}`, ratio);
  } finally {
    reference.close();
    await engine.release();
  }
}

async function createEngine(batch: number): Promise<TrainingEngine> {
  const model = new ConditionalDense();
  const [bucket] = planFlatBuckets(model.parameters);
  if (!bucket) throw new Error('the model has no parameters');
  const uniform = new RandomStream(0, STREAM.dataset);
  const data = Float32Array.from({ length: SAMPLES * 2 }, () => uniform.uniform() * 2 - 1);
  const scaler = { kind: 'none' as const, offset: [], scale: [] };
  return TrainingEngine.create(
    {
      model,
      loss: isoLoss({ lambda: 0.1 }),
      predictionType: 'epsilon',
      betas: new DDPMScheduler().betas,
      alphasCumprod: new DDPMScheduler().alphasCumprod,
      batchSize: batch,
      adam: { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0 },
      maxGradNorm: 0,
      ema: false,
    },
    'cpu',
    new Map([['parameters', packBucket(initialParameters(model, 0), bucket)]]),
    new BatchSource(pointSource({ data, count: SAMPLES, dims: 2, name: 'uniform', scaler }), batch, 1000, 0),
    { learningRate: () => LEARNING_RATE, emaDecay: () => 0 },
  );
}
