import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { AutoencoderKL } from '../src/autoencoders/index.ts';
import { writeFileAtomic } from '../src/files/atomic.ts';
import { type NamedTensor, safetensorsChunks } from '../src/files/safetensors.ts';
import { elementCount } from '../src/graph/types.ts';
import { autoencoderLoss } from '../src/losses/index.ts';
import { initialVector, namedViews } from '../src/models/model.ts';
import { RandomStream } from '../src/random/random-stream.ts';
import { joined } from '../src/trainers/data/prefetched-batches.ts';
import { Engine } from '../src/trainers/engines/engine.ts';
import { AutoencoderObjective } from '../src/trainers/step/autoencoder-objective.ts';
import type { HostBatch } from '../src/trainers/step/batch.ts';
import { settingsOf, stepSchedule } from '../src/trainers/step/settings.ts';
import { resolveTrainingArguments } from '../src/trainers/training-arguments.ts';
import { median, printRatio, requirePython, runPairs, startReference } from './harness.ts';

const KL_WEIGHT = 1e-6;

/**
 * Training steps of an AutoencoderKL of 128x128 RGB images and latents of 32x32x4 (forward, L1 and KL loss, backward, clipping,
 * AdamW, EMA) at `--batch` 4 on the cpu, against eager torch of the same architecture and weights with a thread on every core.
 * Peak memory is that of the whole process, start-up included, on both sides.
 */
export async function run(argv: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: { batch: { type: 'string', default: '4' }, pairs: { type: 'string', default: '6' } },
  });
  requirePython(['torch']);
  const batch = Number(values.batch);
  const autoencoder = new AutoencoderKL({
    sample_size: 128,
    block_out_channels: [64, 128, 256],
    down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D', 'DownEncoderBlock2D'],
    up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D', 'UpDecoderBlock2D'],
  });
  const initial = initialVector(autoencoder, 0);
  const batches = batchesOf(autoencoder, batch);
  const reference = startReference(fileURLToPath(new URL('./autoencoder_reference.py', import.meta.url)));
  const folder = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-bench-'));
  try {
    const weights = path.join(folder, 'weights.safetensors');
    const views = namedViews(autoencoder.parameters, initial);
    const tensors = autoencoder.parameters.map(({ name, shape }): [string, NamedTensor] => [
      name,
      { dtype: 'F32', shape: [...shape], data: views.get(name) ?? initial },
    ]);
    await writeFileAtomic(weights, safetensorsChunks(new Map(tensors)));
    await reference.request({
      ...{ command: 'load', config: autoencoder.config, weights, batch },
      ...{ threads: availableParallelism(), kl_weight: KL_WEIGHT },
    });
    const inputs = path.join(folder, 'inputs.safetensors');
    await writeFileAtomic(inputs, safetensorsChunks(inputsOf(autoencoder, batch, batches.steps(0, 1))));
    const known = await reference.request<{ loss: number }>({ command: 'loss', inputs });
    const engine = await createEngine(autoencoder, batch, initial, batches);
    let step = 0;
    let firstLoss = Number.NaN;
    const peaks = { ours: 0, torch: 0 };
    const processor: { ours: number[]; torch: number[] } = { ours: [], torch: [] };
    const result = await runPairs({
      name: 'autoencoder',
      pairs: Number(values.pairs),
      warmup: 2,
      ours: async () => {
        const [start, used] = [performance.now(), process.cpuUsage()];
        const [report] = await engine.run(step++, 1);
        const { user, system } = process.cpuUsage(used);
        if (step === 1) firstLoss = report?.loss ?? Number.NaN;
        peaks.ours = process.resourceUsage().maxRSS * 1024;
        processor.ours.push((user + system) / 1e6);
        return { seconds: (performance.now() - start) / 1000 };
      },
      reference: async () => {
        const answer = await reference.request<{ seconds: number; processorSeconds: number; peakBytes: number }>({
          command: 'step',
        });
        peaks.torch = answer.peakBytes;
        processor.torch.push(answer.processorSeconds);
        return { seconds: answer.seconds };
      },
    });
    await engine.release();
    if (!(Math.abs(firstLoss / known.loss - 1) < 1e-4))
      throw new Error(`the loss of the first batch is ${firstLoss} here and ${known.loss} in torch`);
    const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
    const seconds = (value: number) => `${value.toFixed(2)} s`;
    const [ours, torch] = [processor.ours, processor.torch].map((times) => median(times.slice(2))) as [number, number];
    console.log(
      `${initial.length} parameters, batch ${batch}; loss of the first batch ${firstLoss}, torch ${known.loss}`,
    );
    console.log(`a step: ours ${seconds(result.oursSeconds)}, torch ${seconds(result.referenceSeconds)}`);
    console.log(`processor time of a step: ours ${seconds(ours)}, torch ${seconds(torch)}`);
    console.log(`peak memory: ours ${mebibytes(peaks.ours)}, torch ${mebibytes(peaks.torch)}`);
    printRatio('autoencoder-processor', torch / ours);
    printRatio('autoencoder-memory', peaks.torch / peaks.ours);
    printRatio('autoencoder', result.ratio);
  } finally {
    reference.close();
    await rm(folder, { recursive: true, force: true });
  }
}

function createEngine(
  autoencoder: AutoencoderKL,
  batch: number,
  initial: Float32Array<ArrayBuffer>,
  batches: ReturnType<typeof batchesOf>,
): Promise<Engine> {
  const args = resolveTrainingArguments({
    ...{ output_dir: 'unused', per_device_train_batch_size: batch, learning_rate: 1e-4 },
    ...{ optim: 'adamw', max_grad_norm: 1, use_ema: true },
  });
  const loss = autoencoderLoss({ kl_weight: KL_WEIGHT });
  const objective = new AutoencoderObjective(autoencoder, loss, [autoencoder.channels, ...autoencoder.sampleSize]);
  const state = new Map([
    ['parameters', initial],
    ['ema', initial],
  ] as const);
  return Engine.create(
    settingsOf(objective, args),
    { device: 'cpu' },
    state,
    batches,
    stepSchedule(args, Number.MAX_SAFE_INTEGER),
  );
}

/** Two batches again and again: in training a thread draws them meanwhile. Images are uniform in [-1, 1]. */
function batchesOf(autoencoder: AutoencoderKL, batch: number) {
  const { images, latents } = shapesOf(autoencoder, batch);
  const drawn = [0, 1].map((index) => {
    const stream = new RandomStream(0, index);
    const clean = Float32Array.from({ length: elementCount(images) }, () => 2 * stream.uniform() - 1);
    const noise = new Float32Array(elementCount(latents));
    stream.fillNormal(noise);
    return { clean, noise, timestep: new Int32Array(), class_labels: undefined };
  });
  return {
    steps: (first: number, count: number): HostBatch =>
      joined(Array.from({ length: count }, (_, i) => drawn[(first + i) % drawn.length] as HostBatch)),
    // The autoencoder has no dropout.
    dropoutNumbers: (_place: unknown, target: Float32Array) => target,
  };
}

function inputsOf(autoencoder: AutoencoderKL, batch: number, { clean, noise }: HostBatch): Map<string, NamedTensor> {
  const { images, latents } = shapesOf(autoencoder, batch);
  return new Map([
    ['images', { dtype: 'F32', shape: images, data: clean }],
    ['noise', { dtype: 'F32', shape: latents, data: noise }],
  ]);
}

function shapesOf({ channels, latentChannels, sampleSize, downsampling }: AutoencoderKL, batch: number) {
  return {
    images: [batch, channels, ...sampleSize],
    latents: [batch, latentChannels, ...sampleSize.map((side) => side / downsampling)],
  };
}
