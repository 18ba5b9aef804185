/**
 * What λ does, on the plane: one model of the Swiss roll, trained without the penalty, draws with several λ.
 *
 *   npx tsx examples/lambda-on-the-plane.ts
 *   npx tsx examples/lambda-on-the-plane.ts --epochs 200 --samples 3000 --output ./lambda
 *
 * It takes about a minute. Where the output folder has the model already, it only draws.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import {
  ConditionalDense,
  curvePlot,
  DDPMScheduler,
  isoLoss,
  loadPoints,
  pipeline,
  precisionRecallDensityCoverage,
  scatterPanels,
  Trainer,
  writePlot,
} from 'iso-diffusion';

const LAMBDAS = [0, 0.05, 0.1, 0.2, 0.3, 0.5];
const SHOWN = [0, 0.1, 0.3];
const METRICS = ['precision', 'recall', 'density', 'coverage'] as const;

const { values } = parseArgs({
  options: {
    epochs: { type: 'string', default: '1000' },
    samples: { type: 'string', default: '10000' },
    output: { type: 'string', default: 'lambda-output' },
  },
});
const samples = Number(values.samples);
const output = path.resolve(values.output);
const folder = path.join(output, 'pipeline');

const data = await loadPoints('swiss-roll', { seed: 0 });
if (!existsSync(folder)) {
  const trainer = new Trainer({
    model: new ConditionalDense(),
    args: {
      output_dir: output,
      num_train_epochs: Number(values.epochs),
      per_device_train_batch_size: 512,
      device: 'cpu',
    },
    train_dataset: data,
    loss: isoLoss({ lambda: 0 }),
    noise_scheduler: new DDPMScheduler({ clip_sample: false }),
  });
  await trainer.train();
  await trainer.savePipeline(folder);
}

const generate = await pipeline('unconditional-point-generation', folder, { device: 'cpu' });
const fast = { scheduler: 'dpm++-karras', num_inference_steps: 20, output_type: 'scaled', seed: 0 } as const;
async function draw(lambda: number) {
  const { points } = await generate({ ...fast, batch_size: samples, iso_lambda: lambda });
  const fake = { data: points, count: samples, dims: data.dims };
  const metrics = await precisionRecallDensityCoverage(data, fake, { nearest_k: 5 });
  const row = METRICS.map((name) => `${name} ${metrics[name].toFixed(3)}`).join('  ');
  console.log(`λ = ${lambda}`.padEnd(10), row);
  return { lambda, fake, metrics };
}
const draws: Awaited<ReturnType<typeof draw>>[] = [];
for (const lambda of LAMBDAS) draws.push(await draw(lambda));
await generate.dispose();

const panels = draws
  .filter(({ lambda }) => SHOWN.includes(lambda))
  .map(({ lambda, fake, metrics: { density, recall } }) => ({
    real: data,
    fake,
    title: `λ = ${lambda}: Density ${density.toFixed(2)}, Recall ${recall.toFixed(3)}`,
  }));
const curves = await curvePlot({
  series: METRICS.map((name) => ({
    name,
    x: LAMBDAS,
    y: draws.map(({ metrics }) => metrics[name] - (draws[0]?.metrics[name] ?? 0)),
  })),
  title: 'Swiss roll: change of the metrics against λ = 0',
  x_label: 'λ',
  y_label: 'change',
});
const files = [
  ...(await writePlot(path.join(output, 'points'), await scatterPanels(panels, { max_points: 3000 }))),
  ...(await writePlot(path.join(output, 'metrics'), curves)),
];
console.log(`Written:\n${files.map((file) => `  ${path.relative('.', file)}`).join('\n')}`);
