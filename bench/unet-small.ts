import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeFileAtomic } from '../src/files/atomic.ts';
import { safetensorsChunks } from '../src/files/safetensors.ts';
import { UNet2DModel } from '../src/models/index.ts';
import {
  type Measurement,
  measure,
  printProcessorRatio,
  printRatio,
  requirePython,
  runPairs,
  startReference,
} from './harness.ts';
import { createEngine, LAMBDA, namedWeights } from './unet-step.ts';

const BATCH = 32;

/**
 * Training steps of a U-Net of 0.7 M parameters, channels [32, 64], on 16x16 images at batch 32 (forward, iso loss, backward,
 * clipping, AdamW, EMA), against eager torch of the same architecture and weights. Both sides take all threads.
 */
export async function run(): Promise<void> {
  requirePython(['torch']);
  const model = new UNet2DModel({
    sample_size: 16,
    in_channels: 1,
    out_channels: 1,
    block_out_channels: [32, 64],
    down_block_types: ['DownBlock2D', 'AttnDownBlock2D'],
    up_block_types: ['AttnUpBlock2D', 'UpBlock2D'],
    layers_per_block: 1,
    norm_num_groups: 8,
  });
  const reference = startReference(fileURLToPath(new URL('./unet_reference.py', import.meta.url)));
  const folder = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-bench-'));
  try {
    const weights = path.join(folder, 'weights.safetensors');
    await writeFileAtomic(weights, safetensorsChunks(namedWeights(model)));
    const load = { config: model.config, weights, batch: BATCH, threads: availableParallelism(), lambda: LAMBDA };
    await reference.request({ command: 'load', ...load });
    const engine = await createEngine(model, BATCH, 'cpu');
    let step = 0;
    const result = await runPairs({
      name: 'unet-small',
      pairs: 8,
      warmup: 2,
      ours: () =>
        measure(async () => {
          await engine.run(step++, 1);
        }),
      reference: async (): Promise<Measurement> => {
        const answer = await reference.request<{ seconds: number[]; processorSeconds: number }>({
          command: 'steps',
          count: 1,
        });
        const [seconds = Number.NaN] = answer.seconds;
        return { seconds, processorSeconds: answer.processorSeconds };
      },
    });
    await engine.release();
    printProcessorRatio(result);
    printRatio('unet-small', result.ratio);
  } finally {
    reference.close();
    await rm(folder, { recursive: true, force: true });
  }
}
