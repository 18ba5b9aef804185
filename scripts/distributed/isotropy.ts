/**
 * `npx tsx scripts/distributed/isotropy.ts`: the isotropy of the Swiss roll over 150 steps of 512 samples, as one batch and as
 * many, with the penalty of the whole step and of each batch. Prints the table of docs/distributed.md and writes its plot.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadPoints } from '../../src/datasets/index.ts';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { isoLoss } from '../../src/losses/index.ts';
import { ConditionalDense } from '../../src/models/index.ts';
import { curvePlot, svgToPng } from '../../src/plots/index.ts';
import { DDPMScheduler } from '../../src/schedulers/index.ts';
import { readCheckpoint } from '../../src/trainers/checkpoint/checkpoint.ts';
import { Trainer } from '../../src/trainers/trainer.ts';

const STEPS = 150;
const SAMPLES = 512;
/** The mean of so many last steps is compared. */
const LAST = 10;
const DRAWN = [1, 8, 128];
const plot = fileURLToPath(new URL('../../docs/images/isotropy-over-step.png', import.meta.url));

const folder = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-'));
const train_dataset = await loadPoints('swiss-roll');

/** The isotropy of each step, and the gradient of the first: Adam's first moment is that gradient then. */
async function train(batches: number, isotropy_over: 'step' | 'batch') {
  const isotropy: number[] = [];
  const trainer = new Trainer({
    model: new ConditionalDense(),
    args: {
      output_dir: path.join(folder, `${batches}-${isotropy_over}`),
      per_device_train_batch_size: SAMPLES / batches,
      gradient_accumulation_steps: batches,
      isotropy_over,
      max_steps: STEPS,
      save_steps: 1,
      save_total_limit: STEPS,
      logging_steps: 1,
      device: 'cpu',
      report_to: [],
      disable_tqdm: true,
    },
    train_dataset,
    loss: isoLoss({ lambda: 0.3 }),
    noise_scheduler: new DDPMScheduler(),
    callbacks: [{ onStep: (_state, metrics) => void isotropy.push(metrics.isotropy ?? Number.NaN) }],
  });
  await trainer.train();
  const { tensors } = await readCheckpoint(path.join(trainer.args.output_dir, 'checkpoint-1'));
  const gradient = tensors.get('first_moment')?.data as Float32Array;
  const last = isotropy.slice(-LAST).reduce((sum, value) => sum + value, 0) / LAST;
  return { isotropy, gradient, last };
}

const norm = (vector: Float32Array) => Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));

try {
  const one = await train(1, 'step');
  const series = [];
  console.log("| batches of a step | 'step' | first gradient | 'batch' |\n| --- | --- | --- | --- |");
  for (const batches of [1, 8, 32, 128]) {
    const step = batches === 1 ? one : await train(batches, 'step');
    const batch = batches === 1 ? one : await train(batches, 'batch');
    const difference = norm(step.gradient.map((value, i) => value - (one.gradient[i] ?? Number.NaN)));
    const relative = (difference / norm(one.gradient)).toExponential(1);
    console.log(
      `| ${batches} of ${SAMPLES / batches} | ${step.last.toFixed(4)} | ${relative} | ${batch.last.toFixed(4)} |`,
    );
    if (!DRAWN.includes(batches)) continue;
    const x = step.isotropy.map((_, i) => i + 1);
    series.push({ name: `${batches} of ${SAMPLES / batches}: step`, x, y: step.isotropy });
    if (batches > 1) series.push({ name: `${batches} of ${SAMPLES / batches}: batch`, x, y: batch.isotropy });
  }
  const title = 'Isotropy while training, 512 samples a step';
  const svg = await curvePlot({ series, title, x_label: 'step', y_label: 'isotropy' });
  await writeFileAtomic(plot, await svgToPng(svg));
} finally {
  await rm(folder, { recursive: true, force: true });
}
