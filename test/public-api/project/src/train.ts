// Trains a transformer on images and a network on points, a few steps each, and saves both.
import { ConditionalDense, DDPMScheduler, Trainer } from 'iso-diffusion';
import { bars, circle } from './data.js';
import { isoHuber, pseudoHuber } from './pseudo-huber.js';
import { TermRecorder } from './term-recorder.js';
import { TinyDiT } from './tiny-dit.js';

const recorder = new TermRecorder();
const images = new Trainer({
  model: new TinyDiT(),
  args: {
    output_dir: 'runs/bars',
    max_steps: 6,
    per_device_train_batch_size: 8,
    gradient_checkpointing: true,
    logging_steps: 2,
    device: 'cpu',
  },
  train_dataset: bars(32),
  loss: isoHuber,
  noise_scheduler: new DDPMScheduler(),
  callbacks: [recorder],
});
await images.train();
await images.savePipeline('runs/bars/pipeline');

const points = new Trainer({
  model: new ConditionalDense({ hidden_features: 16 }),
  args: { output_dir: 'runs/circle', max_steps: 4, per_device_train_batch_size: 32, device: 'cpu' },
  train_dataset: circle(64),
  loss: pseudoHuber(),
  noise_scheduler: new DDPMScheduler({ clip_sample: false }),
});
await points.train();
await points.savePipeline('runs/circle/pipeline');

console.log(JSON.stringify({ steps: recorder.steps, reports: recorder.reports }));
