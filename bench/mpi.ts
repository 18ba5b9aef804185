import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Communicator } from '../src/distributed/communicator.ts';
import { SINGLE } from '../src/distributed/communicator.ts';
import { isoLoss } from '../src/losses/index.ts';
import { UNet2DModel, unet2DPreset } from '../src/models/index.ts';
import { initialVector } from '../src/models/model.ts';
import { DDPMScheduler } from '../src/schedulers/ddpm.ts';
import { limitThreads } from '../src/threads/threads.ts';
import { BatchStream } from '../src/trainers/data/batch-stream.ts';
import { Engine } from '../src/trainers/engines/engine.ts';
import { stepSchedule, stepSettings } from '../src/trainers/step/settings.ts';
import { resolveTrainingArguments } from '../src/trainers/training-arguments.ts';
import { median, printRatio } from './harness.ts';
import { LAMBDA, uniformImages } from './unet-step.ts';

const BATCH = 2;
const PAIRS = 4;

/**
 * What several processes cost the 35.7 M-parameter U-Net: the sum of its gradients over 2 ranks beside a step, and what the
 * isotropy of the whole step costs with several batches (a second forward pass) and with one batch a rank (the cut graph).
 * The last two are seconds of the cpu on one thread, so that what else runs counts less.
 */
export async function run(): Promise<void> {
  // Threads that wait for each other would count as work.
  limitThreads(1);
  const accumulation = await compare('four batches a step', 4, SINGLE);
  const cut = await compare('one batch on each of two ranks', 1, echo());
  const rank = fileURLToPath(new URL('./mpi-rank.ts', import.meta.url));
  const mpirun = ['--oversubscribe', '--allow-run-as-root', '-n', '2', process.execPath, '--import', 'tsx', rank];
  const { error } = spawnSync('mpirun', mpirun, { stdio: 'inherit' });
  if (error) console.log(`no mpirun, so the sum over ranks is not measured: ${error.message}`);
  printRatio('mpi-exact-accumulation', accumulation);
  printRatio('mpi-exact-cut', cut);
}

/** Seconds with the isotropy of the step over seconds with that of each batch. */
async function compare(name: string, batches: number, communicator: Communicator): Promise<number> {
  const engines = {
    batch: await createEngine(batches, 'batch', communicator),
    step: await createEngine(batches, 'step', communicator),
  };
  const seconds = { batch: [] as number[], step: [] as number[] };
  for (let pair = -1; pair < PAIRS; pair++)
    for (const [over, engine] of Object.entries(engines) as ['batch' | 'step', Engine][]) {
      const before = process.cpuUsage();
      await engine.run(pair + 1, 1);
      const { user, system } = process.cpuUsage(before);
      if (pair >= 0) seconds[over].push((user + system) / 1e6);
    }
  for (const engine of Object.values(engines)) await engine.release();
  const [batch, step] = [median(seconds.batch), median(seconds.step)];
  console.log(`${name}: of the batch ${batch.toFixed(2)} s, of the step ${step.toFixed(2)} s`);
  return step / batch;
}

function createEngine(batches: number, isotropy_over: 'step' | 'batch', communicator: Communicator): Promise<Engine> {
  const model = new UNet2DModel(unet2DPreset('ddpm-cifar10'));
  const args = resolveTrainingArguments({
    output_dir: 'unused',
    per_device_train_batch_size: BATCH,
    gradient_accumulation_steps: batches,
    isotropy_over,
  });
  const options = { model, loss: isoLoss({ lambda: LAMBDA }), noise_scheduler: new DDPMScheduler() };
  const samples = uniformImages(model.sampleShape);
  return Engine.create(
    stepSettings(options, args, communicator.size),
    { device: 'cpu' },
    new Map([['parameters', initialVector(model, 0)]]),
    new BatchStream(samples, { batchSize: BATCH * batches, trainTimesteps: 1000, seed: 0 }),
    stepSchedule(args, Number.MAX_SAFE_INTEGER),
    communicator,
  );
}

/** Two ranks, of which the other has what this one has: what a rank computes, without waiting. */
function echo(): Communicator {
  return {
    ...SINGLE,
    size: 2,
    allGather: async (own, all) => {
      for (let at = 0; at < all.length; at += own.length) all.set(own, at);
    },
  };
}
