/**
 * The trainer on tfjs: the steps are computed by the backend that your tfjs has, and the result is the same ONNX
 * pipeline as ever, which onnxruntime runs.
 *
 *   npx tsx examples/tfjs-engine.ts --steps 200 --output runs/tfjs
 *
 * It takes `@tensorflow/tfjs-node-gpu`, `@tensorflow/tfjs-node` or `@tensorflow/tfjs`, the first that is installed.
 * docs/tfjs.md says what each can do, and which GPUs `tfjs-node-gpu` knows.
 */
import { createRequire } from 'node:module';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type * as Tf from '@tensorflow/tfjs';
import { ConditionalDense, DDPMScheduler, isoLoss, loadPoints, pipeline, Trainer } from 'iso-diffusion';

// In a bundler: import * as tf from '@tensorflow/tfjs'. Its ES modules do not resolve in Node.
const require = createRequire(import.meta.url);
// tfjs-node 4.22 calls this function, which Node.js 23 removed.
const util: { isNullOrUndefined?: (value: unknown) => boolean } = require('node:util');
util.isNullOrUndefined ??= (value) => value === null || value === undefined;

const PACKAGES = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node', '@tensorflow/tfjs'] as const;

function loadTfjs(): { name: string; tf: typeof Tf } {
  for (const name of PACKAGES) {
    try {
      return { name, tf: require(name) };
    } catch (error) {
      // One that is installed but does not load lacks its native library, or CUDA.
      const [reason = ''] = (error instanceof Error ? error.message : String(error)).split('\n');
      if (!reason.includes(`Cannot find module '${name}'`)) console.log(`${name} does not load: ${reason}`);
    }
  }
  throw new Error(`install one of ${PACKAGES.join(', ')}`);
}

const { name, tf } = loadTfjs();
const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '200' },
    output: { type: 'string', default: 'runs/tfjs' },
  },
});

await tf.ready();
console.log(`${name} ${tf.version.tfjs}, backend ${tf.getBackend()}`);
const trainer = new Trainer({
  model: new ConditionalDense({ hidden_features: 64 }),
  args: {
    output_dir: values.output,
    max_steps: Number(values.steps),
    per_device_train_batch_size: 128,
    logging_steps: Math.ceil(Number(values.steps) / 5),
  },
  train_dataset: await loadPoints('moons'),
  loss: isoLoss({ lambda: 0.1 }),
  noise_scheduler: new DDPMScheduler({ clip_sample: false }),
  callbacks: [
    {
      onStep: ({ global_step }, { loss, isotropy = 0 }) =>
        console.log(`step ${global_step}  loss ${loss.toFixed(4)}  isotropy ${isotropy.toFixed(4)}`),
    },
  ],
  engine: 'tfjs',
  tf,
});
const { global_step } = await trainer.train();
const target = path.resolve(values.output, 'pipeline');
await trainer.savePipeline(target);
console.log(`${global_step} steps; the pipeline is in ${target}`);

const generate = await pipeline('unconditional-point-generation', target, { device: 'cpu' });
const { dims } = await generate({ batch_size: 500, scheduler: 'dpm++-karras', num_inference_steps: 20, seed: 0 });
console.log(`onnxruntime drew ${dims[0]} points`);
await generate.dispose();
