/**
 * Trains DDPM (λ = 0) and Iso-Diffusion (λ = 0.1) on the Swiss roll on the CPU, draws 10,000 points of each, and
 * compares them with the data. Writes a scatter plot, the loss curves and both pipelines.
 *
 * `npm run quickstart -- --epochs 1000` trains as long as the paper; `--points` and `--output` change the rest.
 */
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
} from '../src/index.ts';

const { values } = parseArgs({
  options: {
    epochs: { type: 'string', default: '500' },
    points: { type: 'string', default: '10000' },
    output: { type: 'string', default: 'quickstart-output' },
  },
});
const epochs = Number(values.epochs);
const count = Number(values.points);
const output = path.resolve(values.output);

const data = await loadPoints('swiss-roll', { n: count });
console.log(`Swiss roll, ${count} points, ${epochs} epochs of batch 512 (the paper: 1,000 epochs)`);

const results = [];
for (const lambda of [0, 0.1]) {
  const name = lambda === 0 ? 'DDPM' : `Iso-Diffusion, λ = ${lambda}`;
  const folder = path.join(output, lambda === 0 ? 'ddpm' : 'iso');
  const losses = { x: [] as number[], y: [] as number[] };
  const trainer = new Trainer({
    model: new ConditionalDense(),
    args: { output_dir: folder, num_train_epochs: epochs, device: 'cpu', logging_steps: 100 },
    train_dataset: data,
    loss: isoLoss({ lambda }),
    noise_scheduler: new DDPMScheduler({ clip_sample: false }),
    callbacks: [
      {
        onStep: ({ global_step, max_steps, steps_per_second }, { base_loss }) => {
          losses.x.push(global_step);
          losses.y.push(base_loss);
          if (global_step % 1000 === 0 || global_step === max_steps) {
            console.log(
              `${name}: step ${global_step}/${max_steps}, ${steps_per_second.toFixed(0)} steps/s, ‖ε − ε̂‖²/n ${base_loss.toFixed(4)}`,
            );
          }
        },
      },
    ],
  });
  await trainer.train();
  await trainer.savePipeline(path.join(folder, 'pipeline'));

  const generate = await pipeline('unconditional-point-generation', path.join(folder, 'pipeline'), {
    device: 'cpu',
  });
  const { points } = await generate({
    batch_size: count,
    num_inference_steps: 1000,
    seed: 1,
    output_type: 'scaled',
  });
  await generate.dispose();
  const fake = { data: points, count, dims: 2 };
  results.push({ name, lambda, losses, fake, metrics: await precisionRecallDensityCoverage(data, fake) });
}

console.table(
  Object.fromEntries(
    results.map(({ name, metrics }) => [
      name,
      Object.fromEntries(
        Object.entries(metrics).map(([metric, value]) => [metric, Number(value.toFixed(4))]),
      ),
    ]),
  ),
);
const panels = results.map(({ lambda, fake }) => ({ real: data, fake, title: `Swiss roll, λ = ${lambda}` }));
const written = [
  ...(await writePlot(path.join(output, 'scatter'), await scatterPanels(panels))),
  ...(await writePlot(
    path.join(output, 'loss'),
    await curvePlot({
      series: results.map(({ name, losses }) => ({ name, ...losses })),
      title: 'Noise prediction error',
      x_label: 'step',
      y_label: '‖ε − ε̂‖² / n',
    }),
  )),
];
console.log(`plots: ${written.join(', ')}`);
console.log(`pipelines: ${['ddpm', 'iso'].map((name) => path.join(output, name, 'pipeline')).join(', ')}`);
