import { describe, expect, it } from 'vitest';
import { type DiffusionLoss, hybridLoss, isoLoss, simpleLoss } from '../../src/losses/index.ts';
import type { UNet2DModel, UNet2DOptions } from '../../src/models/index.ts';
import { initialVector } from '../../src/models/model.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { BatchStream } from '../../src/trainers/data/batch-stream.ts';
import { imageSamples } from '../../src/trainers/data/samples.ts';
import type { Backend } from '../../src/trainers/engines/backend.ts';
import { DeviceBackend } from '../../src/trainers/engines/device.ts';
import { Engine } from '../../src/trainers/engines/engine.ts';
import { FusedBackend } from '../../src/trainers/engines/fused.ts';
import { HostBackend } from '../../src/trainers/engines/host.ts';
import { stepSchedule, stepSettings } from '../../src/trainers/step/settings.ts';
import { resolveTrainingArguments } from '../../src/trainers/training-arguments.ts';
import { tinyUNet } from '../models/tiny-unet.ts';
import { stripes } from './stripes.ts';

const unet = (changes: UNet2DOptions = {}) => tinyUNet({ num_class_embeds: 3, ...changes });
const plain = unet();
/** For what does not depend on the model: a tenth of the nodes. */
const smallUnet = (dropout = 0) =>
  unet({
    dropout,
    block_out_channels: [8],
    down_block_types: ['DownBlock2D'],
    up_block_types: ['UpBlock2D'],
    add_attention: false,
  });
const small = smallUnet();

interface Variant {
  readonly model?: UNet2DModel;
  readonly loss?: DiffusionLoss;
  readonly gradientCheckpointing?: boolean;
  readonly isotropyOver?: 'step' | 'batch';
}

/** Three steps by a backend that `Trainer` would not choose on the cpu. */
async function threeSteps(
  accumulationSteps: number,
  { model = plain, loss = isoLoss({ lambda: 0.1 }), gradientCheckpointing = false, isotropyOver = 'step' }: Variant,
  create: (...given: Parameters<typeof FusedBackend.create>) => Promise<Backend | FusedBackend>,
) {
  const args = resolveTrainingArguments({
    output_dir: 'unused',
    per_device_train_batch_size: 4 / accumulationSteps,
    gradient_accumulation_steps: accumulationSteps,
    isotropy_over: isotropyOver,
    gradient_checkpointing: gradientCheckpointing,
    optim: 'adamw',
    max_grad_norm: 0.5,
    use_ema: true,
  });
  const settings = stepSettings({ model, loss, noise_scheduler: new DDPMScheduler() }, args);
  const schedule = stepSchedule(args, 3);
  const samples = imageSamples(stripes(), { random_flip: true });
  const batches = new BatchStream(samples, {
    batchSize: 4,
    trainTimesteps: 1000,
    seed: 0,
    classes: { classCount: 3, dropout: 0.3 },
  });
  const parameters = initialVector(model, 0);
  const initial = new Map([
    ['parameters' as const, parameters],
    ['ema' as const, parameters.slice()],
  ]);
  const backend = await create(settings, 'cpu', initial, batches, schedule);
  const engine = new Engine(backend, settings, batches, schedule);
  const reports = await engine.run(0, 3);
  const state = await engine.state();
  await engine.release();
  return { rows: reports.map((report) => Object.values(report)), state };
}

/** The form of cuda: a Loop over steps around a Loop over batches. */
const inGraph = (accumulationSteps: number, variant: Variant = {}) =>
  threeSteps(accumulationSteps, variant, FusedBackend.create);

/** The form of webgpu: sums and update in sessions of their own, here with a state of several vectors. */
const bySums = (accumulationSteps: number, variant: Variant = {}) =>
  threeSteps(accumulationSteps, variant, (settings, device, initial) =>
    DeviceBackend.create(settings, device, initial, { maxVectorElements: 3000 }),
  );

/** The form of the cpu: sums in memory of the host. */
const onHost = (accumulationSteps: number, variant: Variant = {}) =>
  threeSteps(accumulationSteps, variant, (settings, _device, initial) => HostBackend.create(settings, initial));

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
  it.each(['step', 'batch'] as const)(
    'equal the gradients added up on the host, with the penalty of the %s',
    async (isotropyOver) => {
      const variant = { model: small, isotropyOver };
      const split = await onHost(2, variant);
      expectEqual(await inGraph(2, variant), split);
      expectEqual(await bySums(2, variant), split);
    },
  );

  it.each(Object.entries({ onHost, inGraph, bySums }))(
    '%s: are one large batch, whatever their number, where the penalty is of the step',
    async (_, run) => {
      // So large that the spread of the batches' isotropies is seen.
      const loss = isoLoss({ lambda: 30 });
      const variant = { model: small, loss };
      const [one, two, four] = [await run(1, variant), await run(2, variant), await run(4, variant)];
      expectEqual(two, one);
      expectEqual(four, one);
      for (const { rows } of [two, four])
        rows[0]?.forEach((value, i) => {
          const wanted = one.rows[0]?.[i] ?? Number.NaN;
          // Loss, terms and the norm of the first gradient: sums of float32 in another order.
          expect(Math.abs(value - wanted)).toBeLessThan(2e-6 * Math.max(1, Math.abs(wanted)));
        });
      const apart = await run(4, { ...variant, isotropyOver: 'batch' });
      const difference = Math.abs(Number(apart.rows[0]?.[0]) - Number(one.rows[0]?.[0]));
      expect(difference).toBeGreaterThan(1e-4);
    },
  );

  it('cost no second pass, and keep their bits, without a penalty', async () => {
    const variant = { model: small, loss: isoLoss({ lambda: 0 }) };
    for (const run of [onHost, inGraph, bySums])
      expect(await run(2, variant)).toEqual(await run(2, { ...variant, isotropyOver: 'batch' }));
  });

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
    const split = await onHost(2, variant);
    expectEqual(await inGraph(2, variant), split);
    expectEqual(await bySums(2, variant), split);
  });

  it('drop what one large batch drops', async () => {
    const variant = { model: smallUnet(0.3) };
    expectEqual(await onHost(2, variant), await onHost(1, variant));
  });

  it('one batch a step is the same step in each form', async () => {
    expectEqual(await bySums(1, { model: small }), await inGraph(1, { model: small }));
  });

  it('equal one large batch where the loss is a mean over samples', async () => {
    const variant = { model: small, loss: simpleLoss() };
    expectEqual(await inGraph(2, variant), await inGraph(1, variant));
  });
});
