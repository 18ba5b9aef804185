/**
 * The Iso-Diffusion loss on a tfjs model of one's own: a LayersModel learns the noise in two moons.
 *
 *   npx tsx examples/tfjs-loss.ts 200
 *
 * Here tfjs runs on its plain CPU backend; with `@tensorflow/tfjs-node-gpu` in its place nothing else changes.
 */
import { createRequire } from 'node:module';
import type * as Tf from '@tensorflow/tfjs';
import { DDPMScheduler, loadPoints, RandomStream } from 'iso-diffusion';
import { isoDiffusionLoss } from 'iso-diffusion/tfjs';

// In a bundler: import * as tf from '@tensorflow/tfjs'. Its ES modules do not resolve in Node.
const tf: typeof Tf = createRequire(import.meta.url)('@tensorflow/tfjs');
const steps = Number(process.argv[2] ?? 200);
const BATCH = 128;

const data = await loadPoints('moons');
const { alphasCumprod } = new DDPMScheduler();
const model = tf.sequential({
  layers: [
    tf.layers.dense({ inputShape: [3], units: 64, activation: 'relu' }),
    tf.layers.dense({ units: 64, activation: 'relu' }),
    tf.layers.dense({ units: 2 }),
  ],
});
const optimizer = tf.train.adam(1e-3);
const random = new RandomStream(0);

/** Noisy points with their time in [0, 1) as a third column, and the noise in them. */
function batch() {
  const input = new Float32Array(BATCH * 3);
  const noise = random.fillNormal(new Float32Array(BATCH * 2));
  for (let i = 0; i < BATCH; i++) {
    const point = random.integer(data.count);
    const t = random.integer(1000);
    const alpha = alphasCumprod[t] as number;
    for (let d = 0; d < 2; d++)
      input[3 * i + d] =
        Math.sqrt(alpha) * (data.data[2 * point + d] as number) + Math.sqrt(1 - alpha) * (noise[2 * i + d] as number);
    input[3 * i + 2] = t / 1000;
  }
  return { input: tf.tensor2d(input, [BATCH, 3]), noise: tf.tensor2d(noise, [BATCH, 2]) };
}

for (let step = 1; step <= steps; step++) {
  const { input, noise } = batch();
  const loss = optimizer.minimize(
    () => isoDiffusionLoss(tf, model.apply(input) as Tf.Tensor, noise, { lambda: 0.1 }),
    true,
  );
  if (step % Math.ceil(steps / 5) === 0) console.log(`step ${step}  loss ${loss?.dataSync()[0]?.toFixed(4)}`);
  tf.dispose([input, noise]);
  loss?.dispose();
}
