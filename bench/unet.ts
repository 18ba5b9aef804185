import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { writeFileAtomic } from '../src/files/atomic.ts';
import { type NamedTensor, safetensorsChunks } from '../src/files/safetensors.ts';
import { elementCount } from '../src/graph/types.ts';
import { isoLoss } from '../src/losses/index.ts';
import { UNet2DModel, unet2DPreset } from '../src/models/index.ts';
import { initialVector, namedViews } from '../src/models/model.ts';
import { type ConcreteDevice, parseDevice, resolveDevice } from '../src/runtime/device.ts';
import { DDPMScheduler } from '../src/schedulers/ddpm.ts';
import { BatchStream } from '../src/trainers/data/batch-stream.ts';
import type { Samples } from '../src/trainers/data/samples.ts';
import { Engine } from '../src/trainers/engines/engine.ts';
import { stepSchedule, stepSettings } from '../src/trainers/step/settings.ts';
import { resolveTrainingArguments } from '../src/trainers/training-arguments.ts';
import { type Measurement, printRatio, requirePython, runPairs, startReference } from './harness.ts';

const LAMBDA = 0.05;
const LEARNING_RATE = 1e-4;

/**
 * Training steps of the 35.7 M-parameter DDPM U-Net (forward, iso loss, backward, clipping, AdamW, EMA) at
 * `--batch` 4 on `--device` cpu, against eager torch of the same architecture and weights with a thread on every core.
 * Peak memory is that of the whole process, start-up included, on both sides.
 */
export async function run(argv: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      batch: { type: 'string', default: '4' },
      device: { type: 'string', default: 'cpu' },
      dtype: { type: 'string', default: 'float32' },
    },
  });
  requirePython(['torch']);
  const batch = Number(values.batch);
  const device = await resolveDevice(parseDevice(values.device));
  const model = new UNet2DModel(unet2DPreset('ddpm-cifar10'));
  const reference = startReference(fileURLToPath(new URL('./unet_reference.py', import.meta.url)));
  const folder = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-bench-'));
  try {
    const file = path.join(folder, 'weights.safetensors');
    await writeFileAtomic(file, safetensorsChunks(named(model)));
    await reference.request({
      command: 'load',
      config: model.config,
      weights: file,
      batch,
      threads: availableParallelism(),
      lambda: LAMBDA,
      dtype: values.dtype,
      device: device === 'cpu' ? 'cpu' : 'cuda',
    });
    const engine = await createEngine(model, batch, device);
    let step = 0;
    let ourPeak = 0;
    let torchPeak = 0;
    const result = await runPairs({
      name: 'unet',
      pairs: 8,
      warmup: 3,
      ours: async () => {
        const start = performance.now();
        await engine.run(step++, 1);
        const seconds = (performance.now() - start) / 1000;
        ourPeak = process.resourceUsage().maxRSS * 1024;
        return { seconds };
      },
      reference: async (): Promise<Measurement> => {
        const answer = await reference.request<{ seconds: number[]; peakBytes: number }>({
          command: 'steps',
          count: 1,
        });
        torchPeak = answer.peakBytes;
        return { seconds: answer.seconds[0] ?? Number.NaN };
      },
    });
    await engine.release();
    const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
    console.log(
      `batch ${batch} on ${device}: ours ${(result.oursSeconds * 1000).toFixed(0)} ms a step, torch (${values.dtype}) ${(result.referenceSeconds * 1000).toFixed(0)} ms`,
    );
    console.log(`peak memory: ours ${mebibytes(ourPeak)}, torch ${mebibytes(torchPeak)}`);
    printRatio('unet-memory', torchPeak / ourPeak);
    printRatio('unet-step', result.ratio);
  } finally {
    reference.close();
    await rm(folder, { recursive: true, force: true });
  }
}

function named(model: UNet2DModel): Map<string, NamedTensor> {
  const weights = namedViews(model.parameters, initialVector(model, 0));
  return new Map(
    model.parameters.map(({ name, shape }) => [
      name,
      { dtype: 'F32', shape: [...shape], data: weights.get(name) ?? new Float32Array() },
    ]),
  );
}

function createEngine(model: UNet2DModel, batch: number, device: ConcreteDevice): Promise<Engine> {
  const args = resolveTrainingArguments({
    output_dir: 'unused',
    per_device_train_batch_size: batch,
    learning_rate: LEARNING_RATE,
    optim: 'adamw',
    max_grad_norm: 1,
    use_ema: true,
  });
  const initial = initialVector(model, 0);
  return Engine.create(
    stepSettings({ model, loss: isoLoss({ lambda: LAMBDA }), noise_scheduler: new DDPMScheduler() }, args),
    { device },
    new Map([
      ['parameters', initial],
      ['ema', initial],
    ]),
    new BatchStream(uniformImages(model.sampleShape), { batchSize: batch, trainTimesteps: 1000, seed: 0 }),
    stepSchedule(args, Number.MAX_SAFE_INTEGER),
  );
}

/** As the reference: images whose values are uniform in [-1, 1]. */
function uniformImages(sampleShape: readonly number[]): Samples {
  return {
    name: 'uniform',
    count: 50_000,
    sampleShape,
    fingerprint: 'uniform',
    fill: (_index, target, stream) => {
      for (let i = 0; i < elementCount(sampleShape); i++) target[i] = 2 * stream.uniform() - 1;
    },
  };
}
