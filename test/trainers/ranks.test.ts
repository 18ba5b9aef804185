import { describe, expect, it } from 'vitest';
import { SINGLE } from '../../src/distributed/communicator.ts';
import { hybridLoss, isoLoss } from '../../src/losses/index.ts';
import { ConditionalDense } from '../../src/models/conditional-dense.ts';
import { type DiffusionModel, initialVector } from '../../src/models/model.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { BatchStream } from '../../src/trainers/data/batch-stream.ts';
import { imageSamples, pointSamples } from '../../src/trainers/data/samples.ts';
import { Engine } from '../../src/trainers/engines/engine.ts';
import { stepSchedule, stepSettings } from '../../src/trainers/step/settings.ts';
import { resolveTrainingArguments } from '../../src/trainers/training-arguments.ts';
import { localGroup } from '../distributed/local-group.ts';
import { tinyUNet } from '../models/tiny-unet.ts';
import { circle } from './small-trainer.ts';
import { stripes } from './stripes.ts';

const BATCHES = 4;
const PER_BATCH = 2;
const STEPS = 2;

interface Subject {
  readonly model: DiffusionModel;
  readonly lambda?: number;
  readonly variance?: boolean;
  readonly optim?: 'adamw' | 'lion';
}
const subjects: Record<string, Subject> = {
  points: { model: new ConditionalDense({ hidden_features: 16 }) },
  'points, by Lion': { model: new ConditionalDense({ hidden_features: 16 }), optim: 'lion' },
  'a U-Net that drops and learns its variance': {
    model: tinyUNet({ num_class_embeds: 3, out_channels: 2, dropout: 0.2 }),
    lambda: 3,
    variance: true,
  },
};

/** Two steps of four batches on so many ranks, with everything on that an update has: the report and state of each. */
function train({ model, lambda = 0.3, variance = false, optim = 'adamw' }: Subject, ranks: number) {
  const args = resolveTrainingArguments({
    output_dir: 'unused',
    per_device_train_batch_size: PER_BATCH,
    gradient_accumulation_steps: BATCHES / ranks,
    max_grad_norm: 0.5,
    use_ema: true,
    optim,
  });
  const base = isoLoss({ lambda });
  const options = { model, loss: variance ? hybridLoss({ base }) : base, noise_scheduler: new DDPMScheduler() };
  const images = model.sampleShape.length === 3;
  const samples = images ? imageSamples(stripes(), { random_flip: true }) : pointSamples(circle());
  const group = ranks === 1 ? [SINGLE] : localGroup(ranks);
  return Promise.all(
    group.map(async (communicator) => {
      const count = (BATCHES / ranks) * PER_BATCH;
      const batches = new BatchStream(samples, {
        batchSize: BATCHES * PER_BATCH,
        own: { first: communicator.rank * count, count },
        trainTimesteps: 1000,
        seed: 0,
        classes: images ? { classCount: 3, dropout: 0 } : undefined,
      });
      const parameters = initialVector(model, 0);
      const initial = new Map([
        ['parameters' as const, parameters],
        ['ema' as const, parameters],
      ]);
      const settings = stepSettings(options, args, ranks);
      const schedule = stepSchedule(args, STEPS);
      const engine = await Engine.create(settings, { device: 'cpu' }, initial, batches, schedule, communicator);
      const reports = [];
      for (let step = 0; step < STEPS; step++) reports.push(...(await engine.run(step, 1)));
      const state = await engine.state();
      await engine.release();
      return { reports, state };
    }),
  );
}

describe.each(Object.entries(subjects))('%s', (_, subject) => {
  it('has the same bits on one rank with four batches, on two with two, and on four with one', async () => {
    const [alone] = await train(subject, 1);
    for (const ranks of [2, 4]) for (const outcome of await train(subject, ranks)) expect(outcome).toEqual(alone);
  });
});
