import { writeOnnx } from '../../graph/onnx/write.ts';
import { allocate, elementCount } from '../../graph/types.ts';
import { type DiffusionModel, exportModelGraph, initialParameters, initialVector } from '../../models/model.ts';
import type { ConcreteDevice } from '../../runtime/device.ts';
import { hostTensor, Session } from '../../runtime/session.ts';
import { BatchStream } from '../data/batch-stream.ts';
import { Engine } from '../engines/engine.ts';
import type { StepSchedule, StepSettings } from '../step/settings.ts';

/** How long something took that was run several times. */
export interface Timing {
  /** Runs that were measured, after a first one. */
  readonly runs: number;
  /** The median of one, in seconds. */
  readonly seconds: number;
}

/** Runs of less than this are measured several at a time. */
const MIN_MS = 100;

/** Takes real steps for about `seconds`, at least two, on samples that are zero: their values do not change the time. */
export async function timeSteps(
  settings: StepSettings,
  device: ConcreteDevice,
  { samples: { count, sampleShape, conditionShape, labels }, settings: draws }: BatchStream,
  schedule: StepSchedule,
  seconds: number,
): Promise<Timing> {
  const zeros = { name: 'zeros', count, sampleShape, conditionShape, labels, fingerprint: '', fill: () => undefined };
  const batchSize = settings.batchSize * settings.accumulationSteps;
  const batches = new BatchStream(zeros, { ...draws, batchSize, own: undefined });
  const parameters = initialVector(settings.objective, draws.seed);
  const initial = new Map([
    ['parameters', parameters],
    ['ema', parameters],
  ] as const);
  const engine = await Engine.create(settings, { device }, initial, batches, schedule);
  let done = 0;
  try {
    return await timed(seconds, engine.maxStepsPerRun, async (steps) => {
      const count = Math.min(steps, engine.maxStepsPerRun);
      for (let left = steps; left > 0; left -= count) {
        await engine.run(done, Math.min(count, left));
        done += Math.min(count, left);
      }
    });
  } finally {
    await engine.release();
  }
}

/** Runs the exported model on so many samples for about `seconds`, at least twice. */
export async function timeForward(
  model: DiffusionModel,
  device: ConcreteDevice,
  count: number,
  seconds: number,
): Promise<Timing> {
  const graph = exportModelGraph(model, initialParameters(model, 0));
  const forbidFallback = device === 'webgpu' ? false : undefined;
  const session = await Session.create(writeOnnx(graph), device, { forbidFallback });
  try {
    const feeds = Object.fromEntries(
      graph.inputs.map(({ name, dtype, shape }) => {
        const axes = shape.map((axis) => (axis === 'batch_size' ? count : typeof axis === 'number' ? axis : 1));
        return [name, hostTensor(dtype, axes, allocate(dtype, elementCount(axes)))];
      }),
    );
    return await timed(seconds, 100, async (times) => {
      for (let i = 0; i < times; i++) await session.run(feeds);
    });
  } finally {
    await session.release();
  }
}

/** The first run takes memory and compiles kernels: it is not counted. */
async function timed(seconds: number, most: number, run: (times: number) => Promise<void>): Promise<Timing> {
  await run(1);
  const end = performance.now() + 1000 * seconds;
  const each: number[] = [];
  let runs = 0;
  for (let times = 1; each.length === 0 || performance.now() < end; ) {
    const start = performance.now();
    await run(times);
    const milliseconds = performance.now() - start;
    each.push(milliseconds / times);
    runs += times;
    if (milliseconds < MIN_MS) times = Math.min(most, 2 * times);
  }
  each.sort((a, b) => a - b);
  return { runs, seconds: (each[each.length >> 1] ?? 0) / 1000 };
}
