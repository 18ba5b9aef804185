import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CheckpointError, InvalidArgumentError, NonFiniteLossError } from '../../src/errors.ts';
import { encodeModel, modelProto } from '../../src/graph/onnx/write.ts';
import { mul } from '../../src/graph/ops/index.ts';
import { scalarLike } from '../../src/graph/registry.ts';
import { type DiffusionLoss, defineLoss, isoLoss, simpleLoss } from '../../src/losses/index.ts';
import { ConditionalDense, type DiffusionModel } from '../../src/models/index.ts';
import { initialParameters, initialVector } from '../../src/models/model.ts';
import { hwnc } from '../../src/nn/hwnc.ts';
import { type Layout, nchw, permuteAxes } from '../../src/nn/layout.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { hostTensor, Session } from '../../src/runtime/session.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { readCheckpoint } from '../../src/trainers/checkpoint/checkpoint.ts';
import { BatchStream } from '../../src/trainers/data/batch-stream.ts';
import { DeviceBackend } from '../../src/trainers/engines/device.ts';
import { Engine } from '../../src/trainers/engines/engine.ts';
import { FusedBackend } from '../../src/trainers/engines/fused.ts';
import { HostBackend } from '../../src/trainers/engines/host.ts';
import { asHostTensors, batchInputs } from '../../src/trainers/step/batch.ts';
import { buildGradientGraph, gradientName, LOSS_SCALE, shapeIn } from '../../src/trainers/step/loss-graph.ts';
import { stepSchedule, stepSettings } from '../../src/trainers/step/settings.ts';
import type { StateKind, TrainingState } from '../../src/trainers/step/update.ts';
import { Trainer } from '../../src/trainers/trainer.ts';
import { resolveTrainingArguments, type TrainingArguments } from '../../src/trainers/training-arguments.ts';
import { tinyUNet } from '../models/tiny-unet.ts';
import { runExample } from '../run-example.ts';
import { circle, smallTrainer } from './small-trainer.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'iso-half-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function settingsOf(
  model: DiffusionModel,
  mixed_precision: 'no' | 'fp16',
  { loss = isoLoss({ lambda: 0.1 }), ...given }: Partial<TrainingArguments> & { loss?: DiffusionLoss } = {},
) {
  const args = resolveTrainingArguments({
    output_dir: 'unused',
    per_device_train_batch_size: 2,
    optim: 'adamw',
    max_grad_norm: 1,
    use_ema: true,
    mixed_precision,
    ...given,
  });
  return { args, settings: stepSettings({ model, loss, noise_scheduler: new DDPMScheduler() }, args) };
}

/** Small enough for the gradients of two samples, whose mean is over few elements. */
const SCALE = 1024;

/** The gradients of one batch by parameter. */
async function gradientsOf(model: DiffusionModel, layout: Layout, mixed_precision: 'no' | 'fp16') {
  const { settings } = settingsOf(model, mixed_precision);
  const { graph } = buildGradientGraph(settings, layout);
  const session = await Session.create(encodeModel(modelProto(graph, {}, { roundsFloat16: true })), 'cpu');
  const weights = initialParameters(model, 0);
  const size = model.sampleShape.reduce((product, length) => product * length, 2);
  const stream = new RandomStream(5);
  const [clean, noise] = [new Float32Array(size), new Float32Array(size)];
  stream.fillNormal(clean);
  stream.fillNormal(noise);
  const batch = { clean, noise, timestep: Int32Array.of(17, 900), class_labels: Int32Array.of(1, 3) };
  const feeds = {
    ...asHostTensors(batchInputs(settings.objective, batch, [1, 2])),
    ...Object.fromEntries(
      model.parameters.map((spec) => {
        const values = weights.get(spec.name) as Float32Array;
        const data = spec.isFilter ? permuteAxes(values, spec.shape, layout.filterAxes) : values;
        return [spec.name, hostTensor('float32', shapeIn(layout, spec), data)];
      }),
    ),
    [LOSS_SCALE]: hostTensor('float32', [], Float32Array.of(SCALE)),
  };
  const outputs = await session.run(session.used(feeds));
  await session.release();
  const scale = mixed_precision === 'fp16' ? SCALE : 1;
  return model.parameters.map(({ name }) => {
    const data = outputs[gradientName(name)]?.data as Float32Array;
    return [name, data.map((value) => value / scale)] as const;
  });
}

const norm = (values: Float32Array) => Math.hypot(...values);

describe('gradients in float16', () => {
  it.each([
    ['the 2-D network', 'nchw', new ConditionalDense({ hidden_features: 32 }), nchw],
    [
      'a U-Net with classes, frequencies that float16 cannot hold, and blocks that resample',
      'hwnc',
      tinyUNet({
        num_class_embeds: 4,
        time_embedding_type: 'fourier',
        down_block_types: ['ResnetDownsampleBlock2D', 'AttnDownBlock2D'],
        resnet_time_scale_shift: 'scale_shift',
        act_fn: 'gelu',
      }),
      hwnc,
    ],
  ] as const)('of %s in %s are those of float32 within a hundredth', async (_name, _layout, model, layout) => {
    // Those of float32 are held against torch and float64 elsewhere.
    const exact = await gradientsOf(model, layout, 'no');
    const half = new Map(await gradientsOf(model, layout, 'fp16'));
    const largest = Math.max(...exact.map(([, values]) => norm(values)));
    let differs = false;
    for (const [name, values] of exact) {
      const error = values.map((value, i) => value - (half.get(name)?.[i] ?? Number.NaN));
      differs ||= norm(error) > 0;
      // The bias of a key has a gradient of 0 but for rounding.
      expect(norm(error), name).toBeLessThan(0.01 * norm(values) + 1e-4 * largest);
    }
    expect(differs).toBe(true);
  });
});

/** A loss so steep that its gradient overflows in the first steps, until the scale has fallen. */
const steepLoss = defineLoss({ name: 'steep' }, (inputs) => {
  const { loss, terms } = simpleLoss()(inputs);
  return { loss: mul(loss, scalarLike(loss, 1e4)), terms };
});

const BACKENDS = ['fused', 'host', 'device'] as const;

/** Steps of a small network with a loss that overflows at first. */
async function steepRun(
  backendName: (typeof BACKENDS)[number],
  steps: number,
  { initial, accumulation = 1 }: { initial?: TrainingState; accumulation?: number } = {},
) {
  const model = new ConditionalDense({ hidden_features: 16 });
  const { args, settings } = settingsOf(model, 'fp16', {
    loss: steepLoss,
    gradient_accumulation_steps: accumulation,
    learning_rate: 1e-2,
    lr_scheduler_type: 'linear',
  });
  const schedule = stepSchedule(args, 40);
  const samples = {
    name: 'normal',
    count: 64,
    sampleShape: model.sampleShape,
    fingerprint: '',
    fill: (_index: number, target: Float32Array, stream: RandomStream) => void stream.fillNormal(target),
  };
  const batches = new BatchStream(samples, { batchSize: 2 * accumulation, trainTimesteps: 1000, seed: 0 });
  const parameters = initialVector(model, 0);
  const start: TrainingState =
    initial ??
    new Map<StateKind, Float32Array>([
      ['parameters', parameters],
      ['ema', parameters],
    ]);
  const backend =
    backendName === 'fused'
      ? await FusedBackend.create(settings, 'cpu', start, batches, schedule)
      : backendName === 'host'
        ? await HostBackend.create(settings, start)
        : await DeviceBackend.create(settings, 'cpu', start);
  const engine = new Engine(backend, settings, batches, schedule, start);
  const reports = await engine.run(0, steps);
  const state = await engine.state();
  await engine.release();
  return { reports, state, parameters };
}

describe('a gradient that overflows', () => {
  it.each(BACKENDS)('leaves the state as it is and halves the scale, by the backend %s', async (name) => {
    const skipped = await steepRun(name, 2);
    expect(skipped.reports.map(({ loss_scale }) => loss_scale)).toEqual([32768, 16384]);
    expect(skipped.reports.map(({ skipped_steps }) => skipped_steps)).toEqual([1, 2]);
    for (const { loss, grad_norm } of skipped.reports) {
      expect(loss).toBeGreaterThan(0);
      expect(Number.isFinite(grad_norm)).toBe(false);
    }
    expect(skipped.state.get('parameters')).toEqual(skipped.parameters);
    expect(skipped.state.get('ema')).toEqual(skipped.parameters);
    expect(skipped.state.get('first_moment')?.every((value) => value === 0)).toBe(true);
    expect([...(skipped.state.get('loss_scaler') ?? [])]).toEqual([16384, 0, 2]);
  });

  it('is the same for every backend, until the scale fits and after, where it grows again', async () => {
    const runs = await Promise.all(BACKENDS.map((name) => steepRun(name, 20)));
    const [fused, ...others] = runs;
    const scales = fused?.reports.map(({ loss_scale }) => loss_scale ?? 0) ?? [];
    const skippedSteps = fused?.reports.at(-1)?.skipped_steps ?? 0;
    expect(skippedSteps).toBeGreaterThan(4);
    expect(skippedSteps).toBeLessThan(16);
    expect(scales.at(-1)).toBe(65536 / 2 ** skippedSteps);
    for (const { reports, state } of others) {
      expect(reports.map(({ loss_scale }) => loss_scale)).toEqual(scales);
      const [a, b] = [state.get('parameters'), fused?.state.get('parameters')];
      const error = a?.map((value, i) => value - (b?.[i] ?? Number.NaN)) ?? new Float32Array();
      expect(norm(error) / norm(a ?? new Float32Array())).toBeLessThan(1e-2);
    }
    // As if 2000 steps had passed, of which the last is the next.
    const end = fused?.state ?? new Map();
    const almost = Float32Array.of(1, 1999, skippedSteps);
    for (const name of BACKENDS) {
      const { reports } = await steepRun(name, 1, { initial: new Map([...end, ['loss_scaler', almost]]) });
      expect(reports[0], name).toMatchObject({ loss_scale: 2, skipped_steps: skippedSteps });
    }
  });

  it.each(BACKENDS)('is no update: Adam then takes its first step, by the backend %s', async (name) => {
    const steps = (await steepRun(name, 20)).reports.findIndex(({ grad_norm }) => Number.isFinite(grad_norm)) + 1;
    const { state, parameters } = await steepRun(name, steps);
    const moved = state
      .get('parameters')
      ?.map((value, i) => Math.abs(value - (parameters[i] ?? 0) * (1 - 1e-2 * 0.01)));
    // Adam's first step is the learning rate for every parameter with a gradient.
    expect(steps).toBeGreaterThan(4);
    expect(Math.max(...(moved ?? []))).toBeCloseTo(1e-2, 5);
  });

  it.each(['host', 'device', 'fused'] as const)('skips a step of several batches as a whole: %s', async (name) => {
    const { reports, state, parameters } = await steepRun(name, 1, { accumulation: 3 });
    expect(reports[0]).toMatchObject({ loss_scale: 32768, skipped_steps: 1 });
    expect(state.get('parameters')).toEqual(parameters);
  });
});

it('a run that overflowed and was resumed equals an unbroken one to the bit, and so does its log', async () => {
  const lines = (file: string) =>
    readFileSync(file, 'utf8')
      .replaceAll(/,"steps_per_second":[^,}]*/g, '')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
  /** @param stops the steps after which the run is interrupted and resumed. */
  const run = async (name: string, stops: readonly number[], gradient_accumulation_steps: number) => {
    const output_dir = path.join(folder, name);
    for (const stop of [...stops, 0]) {
      const controller = new AbortController();
      const trainer = new Trainer({
        model: new ConditionalDense({ hidden_features: 16 }),
        args: {
          output_dir,
          max_steps: 22,
          per_device_train_batch_size: 32,
          gradient_accumulation_steps,
          mixed_precision: 'fp16',
          use_ema: true,
          learning_rate: 1e-2,
          logging_steps: 3,
          report_to: ['jsonl'],
          device: 'cpu',
        },
        train_dataset: circle(),
        loss: steepLoss,
        noise_scheduler: new DDPMScheduler(),
        callbacks: [
          {
            interval_steps: 1,
            onInterval: ({ global_step }) => {
              if (global_step === stop) controller.abort();
            },
          },
        ],
      });
      await trainer.train({ resume_from_checkpoint: 'latest', signal: controller.signal });
    }
    const { tensors } = await readCheckpoint(path.join(output_dir, 'checkpoint-22'));
    return { tensors, log: lines(path.join(output_dir, 'metrics.jsonl')) };
  };
  for (const batches of [1, 2]) {
    const unbroken = await run(`unbroken-${batches}`, [], batches);
    // It is interrupted while steps are skipped, and after that.
    const broken = await run(`broken-${batches}`, [4, 18], batches);
    const skipped_steps = unbroken.tensors.get('loss_scaler')?.data[2];
    expect(skipped_steps).toBeGreaterThan(4);
    expect(skipped_steps).toBeLessThan(18);
    expect(broken.tensors).toEqual(unbroken.tensors);
    expect(broken.log).toEqual(unbroken.log);
    expect(unbroken.log[0]).toMatchObject({ step: 3, loss_scale: 8192, skipped_steps: 3, loss: null });
    expect(unbroken.log.at(-1)).toMatchObject({ step: 22, skipped_steps });
    expect(unbroken.log.at(-1).loss).toBeGreaterThan(0);
  }
});

it('a loss that no scale helps ends the run', async () => {
  const trainer = smallTrainer(
    { output_dir: path.join(folder, 'hopeless'), max_steps: 60, mixed_precision: 'fp16', report_to: [] },
    [],
    { ...circle(), data: circle().data.map(() => Number.NaN) },
  );
  await expect(trainer.train()).rejects.toThrow(NonFiniteLossError);
});

it('the program of docs/mixed-precision.md trains and saves', async () => {
  const [, program = ''] = /```ts\n([\s\S]*?)```/.exec(readFileSync('docs/mixed-precision.md', 'utf8')) ?? [];
  const file = path.join(folder, 'program.mts');
  const small = "{ block_out_channels: [8], down_block_types: ['DownBlock2D'], up_block_types: ['UpBlock2D'], ";
  const local = program
    .replace("'iso-diffusion'", `'${path.resolve('src/index.ts')}'`)
    .replace("unet2DPreset('small', { ", `${small}layers_per_block: 1, norm_num_groups: 4, add_attention: false, `)
    .replace('out_channels: 1 }))', 'out_channels: 1 })')
    .replace(', unet2DPreset }', ' }');
  expect(local).toContain('add_attention: false');
  writeFileSync(file, local);
  await runExample(file, [], folder);
  expect(existsSync(path.join(folder, 'runs/half/pipeline/unet/model_fp16.onnx'))).toBe(true);
});

it("refuses 'bf16', and a checkpoint of float32", async () => {
  const args = { output_dir: path.join(folder, 'refused'), max_steps: 1, report_to: [] };
  expect(() => smallTrainer({ ...args, mixed_precision: 'bf16' })).toThrow(InvalidArgumentError);
  expect(() => smallTrainer({ ...args, mixed_precision: 'bf16' })).toThrow(/ConvTranspose, Pad, Resize.*Use 'fp16'/);
  await smallTrainer(args).train();
  const half = smallTrainer({ ...args, max_steps: 2, mixed_precision: 'fp16' });
  await expect(half.train({ resume_from_checkpoint: 'latest' })).rejects.toThrow(CheckpointError);
});
