/**
 * Trains DDPM (lambda = 0) and Iso-Diffusion (lambda = 0.1) on the Swiss roll and compares them.
 *
 *   npm run quickstart
 *   npm run quickstart -- --epochs 50 --samples 2000 --output ./quick
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import {
  ConditionalDense,
  curvePlot,
  DDPMScheduler,
  isoLoss,
  loadPoints,
  type PointGenerationOptions,
  type PointSet,
  pipeline,
  precisionRecallDensityCoverage,
  scatterPanels,
  Trainer,
  writePlot,
} from 'iso-diffusion';

const PAPER_EPOCHS = 1000;

const { values } = parseArgs({
  options: {
    epochs: { type: 'string', default: process.env.ISO_DIFFUSION_QUICKSTART_EPOCHS ?? '1000' },
    samples: { type: 'string', default: '10000' },
    output: { type: 'string', default: process.env.ISO_DIFFUSION_QUICKSTART_OUTPUT ?? 'quickstart-output' },
  },
});
const epochs = Number(values.epochs);
const samples = Number(values.samples);
const output = path.resolve(values.output);

/** One run: train, save, load as a user would, draw points in the model's units in many steps and in few, measure. */
async function trainAndMeasure(data: PointSet, lambda: number) {
  const folder = path.join(output, lambda === 0 ? 'ddpm' : 'iso');
  const curve = { name: `λ = ${lambda}`, x: [] as number[], y: [] as number[] };
  const trainer = new Trainer({
    model: new ConditionalDense(),
    args: {
      output_dir: folder,
      num_train_epochs: epochs,
      per_device_train_batch_size: 512,
      seed: 0,
      device: 'cpu',
    },
    train_dataset: data,
    loss: isoLoss({ lambda }),
    // The paper's reverse process does not clip.
    noise_scheduler: new DDPMScheduler({ clip_sample: false }),
    callbacks: [
      {
        onStep: ({ global_step, max_steps, steps_per_second }, { base_loss = 0, isotropy = 0 }) => {
          curve.x.push(global_step);
          curve.y.push(base_loss);
          if (global_step % 4000 === 0 || global_step === max_steps) {
            console.log(
              `  λ = ${lambda}  step ${global_step}/${max_steps}  mse ${base_loss.toFixed(4)}  isotropy ${isotropy.toFixed(4)}  ${steps_per_second.toFixed(0)} steps/s`,
            );
          }
        },
      },
    ],
  });
  await trainer.train();
  const pipelineFolder = path.join(folder, 'pipeline');
  await trainer.savePipeline(pipelineFolder);

  const generate = await pipeline('unconditional-point-generation', pipelineFolder, { device: 'cpu' });
  const draw = async (options: Pick<PointGenerationOptions, 'scheduler' | 'num_inference_steps'>) => {
    const { points } = await generate({ batch_size: samples, seed: 0, output_type: 'scaled', ...options });
    const fake = { data: points, count: samples, dims: data.dims };
    return { fake, metrics: await precisionRecallDensityCoverage(data, fake, { nearest_k: 5 }) };
  };
  const slow = await draw({}); // as in the paper: 1,000 steps of the scheduler that the model was trained with
  const fast = await draw({ scheduler: 'dpm++-karras', num_inference_steps: 20 });
  await generate.dispose();
  return { lambda, pipelineFolder, curve, slow, fast };
}

const started = performance.now();
console.log(`Swiss roll, 10,000 points, batch 512, ${epochs} epochs (the paper: ${PAPER_EPOCHS}), on the CPU`);
const data = await loadPoints('swiss-roll', { seed: 0 });
const ddpm = await trainAndMeasure(data, 0);
const iso = await trainAndMeasure(data, 0.1);

const speeds = { slow: '1,000 steps of DDPM', fast: '20 steps of DPM-Solver++ with Karras sigmas' } as const;
for (const speed of ['slow', 'fast'] as const) {
  console.log(`\n${speeds[speed]}:`);
  console.log(`${'metric'.padEnd(12)}${'DDPM (λ = 0)'.padStart(16)}${'Iso (λ = 0.1)'.padStart(16)}`);
  for (const metric of ['precision', 'recall', 'density', 'coverage'] as const) {
    const columns = [ddpm, iso].map((run) => run[speed].metrics[metric].toFixed(4).padStart(16));
    console.log(metric.padEnd(12) + columns.join(''));
  }
}

const scatter = await scatterPanels([
  { real: data, fake: ddpm.slow.fake, title: 'DDPM, λ = 0' },
  { real: data, fake: iso.slow.fake, title: 'Iso-Diffusion, λ = 0.1' },
]);
const losses = await curvePlot({
  series: [ddpm.curve, iso.curve],
  title: 'Swiss roll: mean squared error of the predicted noise',
  x_label: 'step',
  y_label: 'loss without penalty',
});
const files = [
  ...(await writePlot(path.join(output, 'scatter'), scatter)),
  ...(await writePlot(path.join(output, 'loss'), losses)),
  ddpm.pipelineFolder,
  iso.pipelineFolder,
];
console.log(`\nWritten:\n${files.map((file) => `  ${path.relative('.', file) || file}`).join('\n')}`);
console.log(`One run of one seed, ${((performance.now() - started) / 1000).toFixed(0)} s.`);
