import { describe, expect, it } from 'vitest';
import { packBucket, planFlatBuckets } from '../../src/graph/flat-vectors.ts';
import { type DiffusionLoss, hybridLoss, isoLoss, simpleLoss } from '../../src/losses/index.ts';
import { initialParameters, type UNet2DModel, type UNet2DOptions } from '../../src/models/index.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { BatchSource } from '../../src/trainers/data/batch-source.ts';
import { imageSource } from '../../src/trainers/data/sample-source.ts';
import { AccumulatingTrainingEngine } from '../../src/trainers/engines/accumulating-training-engine.ts';
import { createSplitEngine } from '../../src/trainers/engines/split-training-engine.ts';
import type { StepEngine } from '../../src/trainers/engines/step-engine.ts';
import { TrainingEngine } from '../../src/trainers/engines/training-engine.ts';
import { tinyUNet } from '../models/tiny-unet.ts';
import { stripes } from './stripes.ts';

const unet = (changes: UNet2DOptions = {}) => tinyUNet({ num_class_embeds: 3, ...changes });
const plain = unet();
const schedules = { learningRate: () => 1e-3, emaDecay: () => 0.9 };

interface Variant {
  readonly model?: UNet2DModel;
  readonly loss?: DiffusionLoss;
  readonly gradientCheckpointing?: boolean;
}

function setting(
  accumulationSteps: number,
  { model = plain, loss = isoLoss({ lambda: 0.1 }), gradientCheckpointing }: Variant = {},
) {
  const [bucket] = planFlatBuckets(model.parameters);
  if (!bucket) throw new Error('the model has parameters');
  const parameters = packBucket(initialParameters(model, 0), bucket);
  const settings = {
    model,
    loss,
    predictionType: 'epsilon' as const,
    betas: new DDPMScheduler().betas,
    alphasCumprod: new DDPMScheduler().alphasCumprod,
    gradientCheckpointing,
    batchSize: 4 / accumulationSteps,
    adam: { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 },
    maxGradNorm: 0.5,
    ema: true,
  };
  const source = imageSource(stripes(), { random_flip: true });
  const batches = new BatchSource(source, 4, 1000, 0, { classCount: 3, dropout: 0.3 });
  const initial = new Map([
    ['parameters' as const, parameters],
    ['ema' as const, parameters.slice()],
  ]);
  return { settings, batches, initial };
}

async function threeSteps(engine: StepEngine) {
  const rows = await engine.run(0, 3);
  const state = await engine.state();
  await engine.release();
  return { rows: rows.map((row) => Array.from(row)), state };
}

/** The loop mode of the cpu is that of cuda: a Loop over steps around the Loop over batches. */
async function inGraph(accumulationSteps: number, variant: Variant = {}) {
  const { settings, batches, initial } = setting(accumulationSteps, variant);
  return threeSteps(
    await TrainingEngine.create({ ...settings, accumulationSteps }, 'cpu', initial, batches, schedules),
  );
}

/** The form of webgpu: sums and update in sessions of their own. */
async function bySums(accumulationSteps: number, variant: Variant = {}) {
  const { settings, batches, initial } = setting(accumulationSteps, variant);
  const options = { ...settings, accumulationSteps, maxBucketElements: 3000 };
  return threeSteps(await AccumulatingTrainingEngine.create(options, 'cpu', initial, batches, schedules));
}

type Outcome = Awaited<ReturnType<typeof threeSteps>>;

function expectEqual(actual: Outcome, expected: Outcome): void {
  actual.rows.forEach((row, i) => {
    row.forEach((value, j) => {
      // Rounding of gradients that are 0 but for it becomes whole steps of Adam, which later rows see.
      const tolerance = i === 0 ? 1e-5 : 1e-3;
      const wanted = expected.rows[i]?.[j] ?? Number.NaN;
      expect(Math.abs(value - wanted)).toBeLessThan(tolerance * (1 + Math.abs(wanted)));
    });
  });
  for (const [kind, vector] of expected.state) {
    const other = actual.state.get(kind);
    const difference = Math.hypot(...vector.map((value, i) => value - (other?.[i] ?? Number.NaN)));
    expect(difference / Math.hypot(...vector), kind).toBeLessThan(1e-3);
  }
}

describe('several batches a step in the graph', () => {
  it('equal the gradients added up on the host, with the penalty of each batch', async () => {
    const { settings, batches, initial } = setting(2);
    const split = await threeSteps(await createSplitEngine(settings, 2, initial, batches, schedules));
    expectEqual(await inGraph(2), split);
    expectEqual(await bySums(2), split);
  });

  // On the host the cpu trains pixels first, so that a mask falls on other elements: only these two can be compared.
  it.each([
    ['dropouts', { model: unet({ dropout: 0.3 }) }],
    [
      'dropouts, checkpoints and learned variances',
      {
        model: unet({ out_channels: 2, dropout: 0.3 }),
        loss: hybridLoss(),
        gradientCheckpointing: true,
      },
    ],
  ])('have %s of their own, as batches that are run one by one', async (_, variant) => {
    expectEqual(await inGraph(2, variant), await bySums(2, variant));
  });

  it('equal one large batch where the loss is a mean over samples', async () => {
    expectEqual(await inGraph(2, { loss: simpleLoss() }), await inGraph(1, { loss: simpleLoss() }));
  });
});
