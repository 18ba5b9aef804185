/**
 * Measures the paper's Table 1 set-up (batch 512, 1,000 epochs, 3 seeds for λ = 0 and the paper's λ) on 8 Gaussians
 * and the Swiss roll, and writes `docs/results-2d.md`: `tsx scripts/results-2d.ts [--epochs N] [--seeds N] [--output F]`.
 * Finished runs are kept in `runs/results-2d.json`, so that the script can be stopped and started again.
 */
import { existsSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { writeFileAtomic } from '../src/hub/atomic-file.ts';
import {
  ConditionalDense,
  DDPMScheduler,
  isoLoss,
  loadPoints,
  pipeline,
  precisionRecallDensityCoverage,
  Trainer,
} from '../src/index.ts';

const { values } = parseArgs({
  options: {
    epochs: { type: 'string', default: '1000' },
    seeds: { type: 'string', default: '3' },
    output: { type: 'string', default: 'docs/results-2d.md' },
  },
});
const METRICS = ['precision', 'recall', 'density', 'coverage'] as const;
type Metrics = Record<(typeof METRICS)[number], number>;

/** The published figures of Table 1, DDPM then Iso. */
const SETS = [
  {
    source: '8-gaussians',
    lambda: 0.3,
    paper: [
      [0.994, 0.997, 0.983, 0.932],
      [0.997, 0.988, 0.989, 0.9],
    ],
  },
  {
    source: 'swiss-roll',
    lambda: 0.1,
    paper: [
      [0.9, 0.998, 0.83, 0.895],
      [0.982, 0.984, 0.989, 0.917],
    ],
  },
];

const cache = path.resolve('runs/results-2d.json');
const done: Record<string, Metrics> = existsSync(cache) ? JSON.parse(readFileSync(cache, 'utf8')) : {};
const started = performance.now();

for (let seed = 0; seed < Number(values.seeds); seed++) {
  for (const { source, lambda: paperLambda } of SETS) {
    for (const lambda of [0, paperLambda]) {
      const key = `${source}/${lambda}/${seed}/${values.epochs}`;
      if (done[key]) continue;
      done[key] = await measure(source, lambda, seed);
      await mkdir(path.dirname(cache), { recursive: true });
      await writeFileAtomic(cache, JSON.stringify(done, null, 1));
      console.log(
        `${key}: ${METRICS.map((metric) => `${metric} ${done[key]?.[metric].toFixed(4)}`).join(', ')}`,
      );
    }
  }
}
await mkdir(path.dirname(values.output), { recursive: true });
await writeFileAtomic(values.output, report());
console.log(`${values.output}, after ${((performance.now() - started) / 60_000).toFixed(1)} minutes`);

async function measure(source: string, lambda: number, seed: number): Promise<Metrics> {
  const folder = path.resolve('runs/results-2d', `${source}-${lambda}-${seed}`);
  const train_dataset = await loadPoints(source, { seed });
  const trainer = new Trainer({
    model: new ConditionalDense(),
    args: {
      output_dir: folder,
      num_train_epochs: Number(values.epochs),
      device: 'cpu',
      seed,
      logging_steps: 1000,
    },
    train_dataset,
    loss: isoLoss({ lambda }),
    noise_scheduler: new DDPMScheduler({ clip_sample: false }),
  });
  await trainer.train();
  await trainer.savePipeline(path.join(folder, 'pipeline'));
  const generate = await pipeline('unconditional-point-generation', path.join(folder, 'pipeline'), {
    device: 'cpu',
  });
  const { points } = await generate({ batch_size: 10_000, seed: 1000 + seed, output_type: 'scaled' });
  await generate.dispose();
  return precisionRecallDensityCoverage(train_dataset, { data: points, count: 10_000, dims: 2 });
}

function report(): string {
  const lines = [
    '# Table 1, measured',
    '',
    `Batch 512, ${values.epochs} epochs, learning rate 1e-3, T = 1000, 10,000 real and 10,000 generated points, PRDC with k = 5;`,
    `mean ± standard deviation over ${values.seeds} seeds (each seed draws the data, the initial weights and the samples anew). Written by`,
    '`npm run results-2d`; nothing was tuned towards the published figures.',
    '',
  ];
  for (const { source, lambda: paperLambda, paper } of SETS) {
    lines.push(
      `## ${source}`,
      '',
      '| λ | | Precision | Recall | Density | Coverage |',
      '|---|---|---|---|---|---|',
    );
    [0, paperLambda].forEach((lambda, row) => {
      const runs = Object.entries(done)
        .filter(([key]) => key.startsWith(`${source}/${lambda}/`) && key.endsWith(`/${values.epochs}`))
        .map(([, metrics]) => metrics);
      lines.push(
        `| ${lambda} | measured | ${METRICS.map((metric) => spread(runs.map((run) => run[metric]))).join(' | ')} |`,
      );
      lines.push(`| ${lambda} | paper | ${paper[row]?.join(' | ')} |`);
    });
    lines.push('');
  }
  return lines.join('\n');
}

function spread(numbers: readonly number[]): string {
  const mean = numbers.reduce((sum, x) => sum + x, 0) / numbers.length;
  const variance = numbers.reduce((sum, x) => sum + (x - mean) ** 2, 0) / Math.max(1, numbers.length - 1);
  return `${mean.toFixed(4)} ± ${Math.sqrt(variance).toFixed(4)}`;
}
