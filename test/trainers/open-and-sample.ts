/**
 * Opens pipelines of stripes in a process of its own: `open-and-sample.ts FOLDER...` prints a line for each, as JSON: the
 * digest of four samples, their range, and the mean squared error of what the model predicts of noised stripes, over the
 * mean square of what it should predict.
 */
import { createHash } from 'node:crypto';
import { pipeline } from '../../src/pipelines/index.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { stripes } from './stripes.ts';

const images = stripes();
const size = 64;
const clean = Float32Array.from({ length: images.count * size }, (_, i) => {
  const pixels = images.pixels(Math.floor(i / size));
  return (pixels[i % size] ?? 0) / 127.5 - 1;
});
const noise = new RandomStream(11).fillNormal(new Float32Array(clean.length));
const timesteps = Array.from({ length: images.count }, (_, i) => Math.floor(((i + 0.5) * 1000) / images.count));

for (const folder of process.argv.slice(2)) {
  const generate = await pipeline('unconditional-image-generation', folder, { device: 'cpu' });
  const { scheduler, model } = generate;
  const noisy = scheduler.addNoise(clean, noise, timesteps, size);
  const output = await model.predict(noisy, timesteps);
  const target =
    scheduler.config.prediction_type === 'v_prediction' ? scheduler.getVelocity(clean, noise, timesteps, size) : noise;
  const width = output.length / images.count;
  const meanOutput = target.map((_, i) => output[Math.floor(i / size) * width + (i % size)] ?? Number.NaN);
  const squares = (values: Float32Array) => values.reduce((sum, value) => sum + value ** 2, 0);
  const unexplained = squares(target.map((value, i) => value - (meanOutput[i] ?? Number.NaN))) / squares(target);
  const { data } = await generate({ batch_size: 4, num_inference_steps: 5, seed: 7, output_type: 'tensor' });
  const digest = createHash('sha256').update(data).digest('hex');
  console.log(JSON.stringify({ digest, least: Math.min(...data), greatest: Math.max(...data), unexplained }));
  await generate.dispose();
}
