import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { writeFileAtomic } from '../src/files/atomic.ts';
import { safetensorsChunks } from '../src/files/safetensors.ts';
import { UNet2DModel, unet2DPreset } from '../src/models/index.ts';
import { parseDevice, resolveDevice } from '../src/runtime/device.ts';
import { type Measurement, printRatio, requirePython, runPairs, startReference } from './harness.ts';
import { createEngine, LAMBDA, namedWeights } from './unet-step.ts';

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
      dtype: values.dtype,
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
