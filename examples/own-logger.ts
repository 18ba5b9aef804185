// A logger of your own: everything that a run reports, for a tracking service such as Weights & Biases. This one collects it
// in memory. The calls of a real client go into the same places.
//
//   npx tsx examples/own-logger.ts [folder]
import {
  ConditionalDense,
  DDPMScheduler,
  EvaluationCallback,
  isoLoss,
  loadPoints,
  type RunLogger,
  Trainer,
} from 'iso-diffusion';

/** What a client of a service has: begin a run, log at a step, end the run. */
const service = {
  config: {} as Readonly<Record<string, unknown>>,
  history: [] as { step: number; values: Readonly<Record<string, number>> }[],
  images: [] as string[],
  exitCode: -1,
};

const tracking: RunLogger = {
  begin({ settings }) {
    service.config = settings;
  },
  log(step, values) {
    service.history.push({ step, values });
  },
  // Evaluations and samples belong to an earlier step than the last log: a service needs an axis of their own for them.
  logEvaluation(step, values) {
    service.history.push({ step, values });
  },
  logImage(step, name, png) {
    service.images.push(`${name} of step ${step}: ${png.length} bytes`);
  },
  close(outcome) {
    service.exitCode = outcome === 'failed' ? 1 : 0;
  },
};

const trainer = new Trainer({
  model: new ConditionalDense({ hidden_features: 32 }),
  args: { output_dir: process.argv[2] ?? 'runs/own-logger', max_steps: 60, logging_steps: 20 },
  train_dataset: await loadPoints('moons', { n: 500 }),
  loss: isoLoss({ lambda: 0.1 }),
  noise_scheduler: new DDPMScheduler({ clip_sample: false }),
  callbacks: [
    new EvaluationCallback({ every_steps: 30, samples: 100, num_inference_steps: 5, metrics: { num_samples: 100 } }),
  ],
  loggers: [tracking],
});
await trainer.train();

console.log(`lambda ${service.config['loss.lambda']}, exit code ${service.exitCode}`);
for (const { step, values } of service.history) console.log(step, Object.keys(values).join(' '));
console.log(service.images.join('\n'));
