import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { writeOnnx } from '../src/graph/onnx/write.ts';
import { ConditionalDense, exportModelGraph, initialParameters } from '../src/models/index.ts';
import { DenoisingLoop } from '../src/pipelines/fused/loop.ts';
import { ModelSession } from '../src/pipelines/model-session.ts';
import { readSamplingOptions } from '../src/pipelines/sampling-options.ts';
import { DDPMScheduler } from '../src/schedulers/index.ts';
import { base64, measure, median, printRatio, requirePython, runPairs, startReference } from './harness.ts';

const POINTS = 10_000;
const STEPS = 1000;
/** Torch is slow enough that a tenth of the steps, all of one cost, times it as well; see `referenceSeconds`. */
const REFERENCE_STEPS = 100;

/**
 * DDPM sampling of 10,000 points in 1,000 steps with the paper's network, against eager torch as it comes, with a
 * thread on every core; and, in a line of its own, with one thread, which is faster on some machines.
 */
export async function run(): Promise<void> {
  requirePython(['torch', 'numpy']);
  const model = new ConditionalDense();
  const weights = initialParameters(model, 0);
  const scheduler = new DDPMScheduler({ num_train_timesteps: STEPS, clip_sample: false });
  const reference = startReference(fileURLToPath(new URL('./sampling_reference.py', import.meta.url)));
  try {
    const onnx = writeOnnx(exportModelGraph(model, weights));
    const session = await ModelSession.create(onnx, { ...model.config }, model.sampleShape, 'cpu');
    const loop = await DenoisingLoop.of(onnx, session);
    const { beta_start, beta_end } = scheduler.config;
    await reference.request({
      command: 'load',
      config: model.config,
      beta_start,
      beta_end,
      weights: Object.fromEntries([...weights].map(([name, values]) => [name, base64(values)])),
    });
    await printDifference(session, reference);
    const seconds = async (threads: number) => {
      const request = { command: 'sample', count: POINTS, steps: REFERENCE_STEPS, threads };
      const answer = await reference.request<{ seconds: number }>(request);
      return (answer.seconds * STEPS) / REFERENCE_STEPS;
    };
    const draw = async (seed: number) => {
      const call = readSamplingOptions(
        { num_inference_steps: STEPS, seed },
        { scheduler, isotropy: undefined },
        POINTS,
        'point',
      );
      const points = await loop?.tryRun({ ...call, batchSize: POINTS });
      if (!points) throw new Error('the steps cannot run inside one graph');
    };
    const cores = availableParallelism();
    const oneThread: number[] = [];
    let seed = 0;
    const { ratio, oursSeconds } = await runPairs({
      name: 'sampling',
      ours: () => measure(() => draw(seed++)),
      reference: async () => {
        oneThread.push(await seconds(1));
        return { seconds: await seconds(cores) };
      },
    });
    await loop?.release();
    await session.release();
    console.log(
      `${POINTS} points, ${STEPS} steps; torch eager, t embedded once a step, timed over ${REFERENCE_STEPS} steps and scaled`,
    );
    console.log(`against one torch thread: ${(median(oneThread) / oursSeconds).toFixed(2)}`);
    printRatio('sampling', ratio);
  } finally {
    reference.close();
  }
}

/** Both sides must run the same network: the largest difference of one prediction. */
async function printDifference(session: ModelSession, reference: ReturnType<typeof startReference>): Promise<void> {
  const sample = Float32Array.from({ length: 2 * 64 }, (_, i) => Math.sin(i));
  const ours = await session.predict(sample, 123);
  const { output } = await reference.request<{ output: number[] }>({
    command: 'predict',
    sample: base64(sample),
    timestep: 123,
  });
  const difference = Math.max(...output.map((value, i) => Math.abs(value - (ours[i] ?? Number.NaN))));
  if (!(difference < 1e-4)) throw new Error(`the two networks differ by ${difference}`);
  console.log(`largest difference of a prediction: ${difference.toExponential(1)}`);
}
