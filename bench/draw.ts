import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { UNet2DModel, unet2DPreset } from '../src/models/index.ts';
import { pipeline } from '../src/pipelines/index.ts';
import { peakMemory, printRatio, requirePython, runPairs, startReference } from './harness.ts';
import { withSavedPipeline } from './saved-pipeline.ts';

const PRESET = 'ddpm-cifar10';
const BATCHES = [1, 4, 16];

/**
 * The network's part of a step of sampling, the U-Net of ddpm-cifar10 on the cpu, against torch's forward pass in inference
 * mode at its best number of threads. Peak memory is that of the whole process, start-up included; another process has
 * saved the model.
 */
export async function run(): Promise<void> {
  requirePython(['torch']);
  const model = new UNet2DModel(unet2DPreset(PRESET));
  await withSavedPipeline(saveElsewhere, async (folder) => {
    const reference = startReference(fileURLToPath(new URL('./draw_reference.py', import.meta.url)));
    try {
      const weights = path.join(folder, 'unet', 'diffusion_pytorch_model.safetensors');
      console.log(
        `torch: ${JSON.stringify(await reference.request({ command: 'load', config: model.config, weights }))}`,
      );
      const start = performance.now();
      const generate = await pipeline('unconditional-image-generation', folder, { device: 'cpu' });
      const loadSeconds = (performance.now() - start) / 1000;
      const ratios: number[] = [];
      let torchPeak = 0;
      for (const batch of BATCHES) {
        const sample = Float32Array.from({ length: batch * 3072 }, (_, i) => Math.sin(i * 0.1));
        let difference = 0;
        let ours = new Float32Array();
        const result = await runPairs({
          name: `draw ${batch}`,
          pairs: 7,
          warmup: 2,
          ours: async () => {
            const start = performance.now();
            ours = Float32Array.from(await generate.model.predict(sample, 500));
            return { seconds: (performance.now() - start) / 1000 };
          },
          reference: async () => {
            const answer = await reference.request<{ seconds: number; output: number[]; peakBytes: number }>({
              command: 'run',
              batch,
            });
            difference = Math.max(...answer.output.map((value, i) => Math.abs(value - (ours[i] ?? Number.NaN))));
            torchPeak = answer.peakBytes;
            return { seconds: answer.seconds };
          },
        });
        const milliseconds = (seconds: number) => `${(seconds * 1000).toFixed(0)} ms`;
        console.log(
          `batch ${batch}: ours ${milliseconds(result.oursSeconds)}, torch ${milliseconds(result.referenceSeconds)}; first outputs differ by ${difference.toExponential(1)}`,
        );
        ratios.push(result.ratio);
      }
      await generate.dispose();
      const ourPeak = peakMemory() ?? Number.NaN;
      const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
      console.log(
        `loading: ${loadSeconds.toFixed(2)} s; peak memory: ours ${mebibytes(ourPeak)}, torch ${mebibytes(torchPeak)}`,
      );
      printRatio('draw-memory', torchPeak / ourPeak);
      BATCHES.forEach((batch, i) => {
        printRatio(`draw-${batch}`, ratios[i] ?? Number.NaN);
      });
    } finally {
      reference.close();
    }
  });
}

/** Saves the pipeline in another process: the memory that this takes is not that of drawing. */
function saveElsewhere(folder: string): void {
  const script = fileURLToPath(new URL('./save-unet.ts', import.meta.url));
  const { status } = spawnSync(process.execPath, [...process.execArgv, script, PRESET, folder], { stdio: 'inherit' });
  if (status !== 0) throw new Error(`${script} ended with ${status}`);
}
