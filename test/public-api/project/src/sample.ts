// In a process of its own: opens what train.ts saved, draws with the scheduler of mine.ts and measures with its metric.
import { evaluate, pipeline } from 'iso-diffusion';
import { bars, circle } from './data.js';
import './mine.js';
import { EulerScheduler } from './euler-scheduler.js';

const generate = await pipeline('unconditional-image-generation', 'runs/bars/pipeline', { device: 'cpu' });
const timesteps: number[] = [];
const options = { num_inference_steps: 7, seed: 3 };
const image = await generate({
  ...options,
  scheduler: 'EulerScheduler',
  callback_on_step_end: (_step, timestep) => {
    timesteps.push(timestep);
  },
});
// Two calls at a time: each works on a scheduler of its own.
const scheduler = new EulerScheduler();
const twice = await Promise.all([generate({ ...options, scheduler }), generate({ ...options, scheduler })]);
const same = twice.every(({ data }) => Buffer.compare(Buffer.from(data), Buffer.from(image.data)) === 0);

const ofImages = await evaluate({
  real: bars(32),
  fake: generate,
  metrics: ['mean-distance'],
  metric_options: { power: 1 },
  extractor: 'quadrants',
  num_samples: 8,
  generation: { num_inference_steps: 4, scheduler: 'EulerScheduler' },
});
const ofPoints = await evaluate({
  real: circle(64),
  fake: await pipeline('unconditional-point-generation', 'runs/circle/pipeline', { device: 'cpu' }),
  metrics: ['mean-distance', 'prdc'],
  num_samples: 64,
  generation: { num_inference_steps: 4, scheduler: 'EulerScheduler' },
});
console.log(
  JSON.stringify({
    size: [image.width, image.height, image.channels],
    timesteps,
    same,
    images: ofImages,
    points: ofPoints,
  }),
);
