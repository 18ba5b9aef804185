import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { writeFileAtomic } from '../src/files/atomic.ts';
import { safetensorsChunks } from '../src/files/safetensors.ts';
import { UNet2DModel, unet2DPreset } from '../src/models/index.ts';
import { parseDevice, resolveDevice } from '../src/runtime/device.ts';
import {
  type Measurement,
  measure,
  printProcessorRatio,
  printRatio,
  requirePython,
  runPairs,
  startReference,
} from './harness.ts';
import { createEngine, LAMBDA, namedWeights, smallUNet } from './unet-step.ts';

/**
 * Training steps of the 35.7 M-parameter DDPM U-Net (forward, iso loss, backward, clipping, AdamW, EMA) at
 * `--batch` 4, against eager torch of the same architecture and weights with a thread on every core. Peak memory is that
 * of the whole process, start-up included, on both sides. With `--device` cuda or webgpu see gpu/unet.ts.
 */
export async function run(argv: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      batch: { type: 'string' },
      device: { type: 'string', default: 'cpu' },
      dtype: { type: 'string', default: 'float32' },
      steps: { type: 'string', default: '10' },
      only: { type: 'string' },
    },
  });
  requirePython(['torch']);
  const device = await resolveDevice(parseDevice(values.device));
  if (device !== 'cpu') {
    const { runOnGpu } = await import('./gpu/unet.ts');
    return runOnGpu({ device, batch: Number(values.batch ?? 128), steps: Number(values.steps), only: values.only });
  }
  const batch = Number(values.batch ?? 4);
  const model = new UNet2DModel(unet2DPreset('ddpm-cifar10'));
  const { result, ourPeak, torchPeak } = await compareSteps('unet', model, batch, values.dtype);
  const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
  console.log(
    `batch ${batch} on ${device}: ours ${(result.oursSeconds * 1000).toFixed(0)} ms a step, torch (${values.dtype}) ${(result.referenceSeconds * 1000).toFixed(0)} ms`,
  );
  console.log(`peak memory: ours ${mebibytes(ourPeak)}, torch ${mebibytes(torchPeak)}`);
  printRatio('unet-memory', torchPeak / ourPeak);
  printRatio('unet-step', result.ratio);
}

/** The same steps of a U-Net of 0.7 M parameters, channels [32, 64], on 16x16 images at batch 32. */
export async function runSmall(): Promise<void> {
  requirePython(['torch']);
  const { result } = await compareSteps('unet-small', smallUNet(16), 32, 'float32');
  printProcessorRatio(result);
  printRatio('unet-small', result.ratio);
}

/** Steps on the cpu in turns with torch's, whose numbers are `dtype`, and the peaks of both processes in bytes. */
async function compareSteps(name: string, model: UNet2DModel, batch: number, dtype: string) {
  const reference = startReference(fileURLToPath(new URL('./unet_reference.py', import.meta.url)));
  const folder = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-bench-'));
  try {
    const file = path.join(folder, 'weights.safetensors');
    await writeFileAtomic(file, safetensorsChunks(namedWeights(model)));
    await reference.request({
      command: 'load',
      config: model.config,
      weights: file,
      batch,
      threads: availableParallelism(),
      lambda: LAMBDA,
      dtype,
    });
    const engine = await createEngine(model, batch, 'cpu');
    let step = 0;
    // `measure` starts this count anew at every step.
    const peakSoFar = () => process.resourceUsage().maxRSS * 1024;
    let ourPeak = peakSoFar();
    let torchPeak = 0;
    const result = await runPairs({
      name,
      pairs: 8,
      warmup: 3,
      ours: async () => {
        const measured = await measure(async () => {
          await engine.run(step++, 1);
        });
        ourPeak = Math.max(ourPeak, peakSoFar());
        return measured;
      },
      reference: async (): Promise<Measurement> => {
        const answer = await reference.request<{ seconds: number[]; processorSeconds: number; peakBytes: number }>({
          command: 'steps',
          count: 1,
        });
        torchPeak = answer.peakBytes;
        const [seconds = Number.NaN] = answer.seconds;
        return { seconds, processorSeconds: answer.processorSeconds };
      },
    });
    await engine.release();
    return { result, ourPeak, torchPeak };
  } finally {
    reference.close();
    await rm(folder, { recursive: true, force: true });
  }
}
