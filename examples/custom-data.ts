/**
 * Trains on points of one's own: a CSV file (one point a line, any number of columns), an NPY file, or numbers in memory.
 *
 *   npx tsx examples/custom-data.ts points.csv ./runs/custom 2000
 *
 * Without a file it trains on a ring that it makes itself.
 */
import path from 'node:path';
import {
  ConditionalDense,
  DDPMScheduler,
  isoLoss,
  loadPoints,
  pipeline,
  pointsFromArray,
  Trainer,
  writeCsvPoints,
} from 'iso-diffusion';

const [file, output = './runs/custom', steps = '2000'] = process.argv.slice(2);

/** 1,000 points on a circle of radius 5: x and y in turn. */
const ring = Float32Array.from({ length: 2000 }, (_, i) => {
  const angle = (2 * Math.PI * (i >> 1)) / 1000;
  return 5 * (i % 2 === 0 ? Math.cos(angle) : Math.sin(angle));
});

const data = file ? await loadPoints(file) : pointsFromArray(ring, 2, { name: 'ring' });
const trainer = new Trainer({
  model: new ConditionalDense({ in_features: data.dims }),
  args: { output_dir: output, max_steps: Number(steps), per_device_train_batch_size: 128, device: 'cpu' },
  train_dataset: data,
  loss: isoLoss({ lambda: 0.1 }),
  noise_scheduler: new DDPMScheduler({ clip_sample: false }),
});
const { global_step, metrics } = await trainer.train();
console.log(`${data.count} points of ${data.dims} dimensions, ${global_step} steps, loss ${metrics?.loss.toFixed(4)}`);

const folder = path.join(output, 'pipeline');
await trainer.savePipeline(folder);
const generate = await pipeline('unconditional-point-generation', folder, { device: 'cpu' });
const { points, dims } = await generate({
  batch_size: 1000,
  scheduler: 'dpm++-karras',
  num_inference_steps: 20,
});
await generate.dispose();
await writeCsvPoints(path.join(output, 'generated.csv'), points, dims[1]);
console.log(`drew ${dims[0]} points in the units of the data: ${path.join(output, 'generated.csv')}`);
