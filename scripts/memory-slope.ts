/**
 * `npx tsx scripts/memory-slope.ts [steps]`: trains a small U-Net on the digits, reads the resident set every 50 steps, and
 * prints the slope of the least-squares line over the second half of the run.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { imageModel } from '../src/experiments/jobs/image-sets.ts';
import { DDPMScheduler, isoLoss, loadImages, Trainer } from '../src/index.ts';

const steps = Number(process.argv[2] ?? 2000);
const folder = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-memory-'));
const samples: { step: number; mebibytes: number }[] = [];
const digits = await loadImages('digits');
const trainer = new Trainer({
  model: imageModel('tiny', digits),
  // Two batches a step, so that the engine of large models is the one that is watched.
  args: {
    output_dir: folder,
    max_steps: steps,
    per_device_train_batch_size: 8,
    gradient_accumulation_steps: 2,
    use_ema: true,
    logging_steps: 50,
    save_steps: 500,
    device: 'cpu',
  },
  train_dataset: digits,
  loss: isoLoss({ lambda: 0.05 }),
  noise_scheduler: new DDPMScheduler(),
  callbacks: [
    {
      onStep: ({ global_step }) => {
        samples.push({ step: global_step, mebibytes: process.memoryUsage().rss / 2 ** 20 });
      },
    },
  ],
});
await trainer.train();
await rm(folder, { recursive: true, force: true });

const late = samples.filter(({ step }) => step > steps / 2);
const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
const [middle, level] = [mean(late.map(({ step }) => step)), mean(late.map(({ mebibytes }) => mebibytes))];
const slope =
  late.reduce((sum, { step, mebibytes }) => sum + (step - middle) * (mebibytes - level), 0) /
  late.reduce((sum, { step }) => sum + (step - middle) ** 2, 0);
for (const { step, mebibytes } of samples.filter((_, i) => i % 4 === 3))
  console.log(`step ${step}: ${mebibytes.toFixed(0)} MiB`);
console.log(`slope over the second half: ${(1000 * slope).toFixed(2)} MiB per 1,000 steps`);
