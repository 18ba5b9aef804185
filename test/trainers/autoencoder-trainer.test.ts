import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadAutoencoder } from '../../src/autoencoders/index.ts';
import { SINGLE } from '../../src/distributed/communicator.ts';
import { InvalidArgumentError } from '../../src/errors.ts';
import { EvaluationCallback } from '../../src/evaluation/index.ts';
import { Graph } from '../../src/graph/graph.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import { conv2d } from '../../src/graph/ops/conv/conv.ts';
import { relu } from '../../src/graph/ops/elementwise.ts';
import { averagePool } from '../../src/graph/ops/pooling.ts';
import { autoencoderLoss } from '../../src/losses/index.ts';
import { OnnxFeatureMaps } from '../../src/models/index.ts';
import { initialVector } from '../../src/models/model.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { asTfjs } from '../../src/runtime/tfjs/tf-module.ts';
import { BatchStream } from '../../src/trainers/data/batch-stream.ts';
import { imageSamples } from '../../src/trainers/data/samples.ts';
import type { Backend } from '../../src/trainers/engines/backend.ts';
import { DeviceBackend } from '../../src/trainers/engines/device.ts';
import { Engine } from '../../src/trainers/engines/engine.ts';
import { FusedBackend } from '../../src/trainers/engines/fused.ts';
import { HostBackend } from '../../src/trainers/engines/host.ts';
import { TfjsBackend } from '../../src/trainers/engines/tfjs.ts';
import { AutoencoderTrainer, measureReconstruction, type StepMetrics } from '../../src/trainers/index.ts';
import { AutoencoderObjective } from '../../src/trainers/step/autoencoder-objective.ts';
import { settingsOf, stepSchedule } from '../../src/trainers/step/settings.ts';
import type { TrainingState } from '../../src/trainers/step/update.ts';
import { resolveTrainingArguments } from '../../src/trainers/training-arguments.ts';
import { localGroup } from '../distributed/local-group.ts';
import { tf } from '../runtime/tfjs/load-tf.ts';
import { smallAutoencoderTrainer, tinyAutoencoders } from './small-autoencoder-trainer.ts';
import { stripes } from './stripes.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'iso-autoencoder-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const kinds = ['kl', 'vq'] as const;
const logged = (output_dir: string): StepMetrics[] =>
  readFileSync(path.join(output_dir, 'metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

it('is not evaluated by drawing', async () => {
  const evaluation = new EvaluationCallback({});
  const trainer = smallAutoencoderTrainer({ output_dir: path.join(folder, 'drawing'), max_steps: 1 }, [evaluation]);
  await expect(trainer.train()).rejects.toThrow(
    /EvaluationCallback draws .* trains an autoencoder, AutoencoderKL: .*eval_dataset/,
  );
});

describe.each(kinds)('AutoencoderTrainer of a %s autoencoder', (kind) => {
  it('learns, reports its terms, evaluates, saves, and is opened again', async () => {
    const output_dir = path.join(folder, kind);
    const evaluations: [number, number | undefined][] = [];
    const trainer = smallAutoencoderTrainer({ output_dir, max_steps: 30, save_steps: 0, warmup_steps: 0 }, [], kind, {
      eval_dataset: stripes(6),
      eval_steps: 20,
      loggers: [{ log: () => {}, logEvaluation: (step, { psnr }) => void evaluations.push([step, psnr]) }],
    });
    const untrained = await trainer.evaluate();
    await trainer.train();
    const log = logged(output_dir).filter(({ loss }) => loss !== undefined);
    const [first, last] = [log[0], log.at(-1)];
    const ofKind = kind === 'kl' ? ['kl'] : ['codebook', 'commitment', 'perplexity'];
    expect(Object.keys(first ?? {})).toEqual(
      expect.arrayContaining(['loss', 'reconstruction', ...ofKind, 'grad_norm']),
    );
    expect(last?.reconstruction).toBeLessThan(first?.reconstruction ?? 0);
    if (kind === 'vq') for (const { perplexity = 0 } of log) expect(perplexity >= 1 && perplexity <= 11).toBe(true);

    expect(evaluations.map(([step]) => step)).toEqual([20, 30]);
    const measured = await trainer.evaluate();
    expect(measured.psnr).toBe(evaluations.at(-1)?.[1]);
    expect(measured.psnr).not.toBe(untrained.psnr);
    if (kind === 'kl') expect(measured.psnr).toBeGreaterThan(untrained.psnr);

    const saved = path.join(output_dir, 'autoencoder');
    await trainer.saveAutoencoder(saved);
    const session = await loadAutoencoder(saved, { device: 'cpu' });
    expect(await measureReconstruction(session, stripes(6))).toEqual({ ...measured, images: 6 });
    await session.dispose();
    await trainer.saveAutoencoder(saved, { ema: false });
    const raw = await loadAutoencoder(saved, { device: 'cpu' });
    expect((await measureReconstruction(raw, stripes(6))).psnr).toBe(
      (await trainer.evaluate(undefined, { ema: false })).psnr,
    );
    await raw.dispose();
  });
});

describe('a run of a vq autoencoder', () => {
  it('is resumed with the same bits', async () => {
    const args = { max_steps: 6, save_steps: 3, logging_steps: 2 };
    const unbroken = smallAutoencoderTrainer({ output_dir: path.join(folder, 'unbroken'), ...args }, [], 'vq');
    await unbroken.train();
    const output_dir = path.join(folder, 'broken');
    const stop = new AbortController();
    const broken = smallAutoencoderTrainer({ output_dir, ...args }, [{ onSave: () => stop.abort() }], 'vq');
    expect(await broken.train({ signal: stop.signal })).toMatchObject({ interrupted: true, global_step: 3 });
    const resumed = smallAutoencoderTrainer({ output_dir, ...args }, [], 'vq');
    await resumed.train({ resume_from_checkpoint: 'latest' });
    for (const ema of [false, true]) expect(resumed.weights({ ema })).toEqual(unbroken.weights({ ema }));
    const other = smallAutoencoderTrainer({ output_dir, ...args, seed: 1 }, [], 'vq', {
      loss: autoencoderLoss({ reconstruction: 'l2' }),
    });
    await expect(other.train({ resume_from_checkpoint: 'latest' })).rejects.toThrow(
      /loss.reconstruction is "l1" there/,
    );
  });
});

/** Steps of the engine with one backend. */
async function stepsBy(
  kind: (typeof kinds)[number],
  create: (
    settings: ReturnType<typeof settingsOf>,
    initial: TrainingState,
    batches: BatchStream,
  ) => Promise<Backend | FusedBackend>,
  mixed_precision: 'no' | 'fp16' = 'no',
) {
  const args = resolveTrainingArguments({
    output_dir: 'unused',
    per_device_train_batch_size: 4,
    gradient_accumulation_steps: 2,
    max_grad_norm: 0.5,
    mixed_precision,
  });
  const autoencoder = tinyAutoencoders[kind]();
  const objective = new AutoencoderObjective(autoencoder, autoencoderLoss({ kl_weight: 1e-3 }), [1, 8, 8]);
  const settings = settingsOf(objective, args);
  const samples = imageSamples(stripes(), { random_flip: true });
  const batches = new BatchStream(samples, { batchSize: 8, seed: 0, noiseSize: objective.noiseSize });
  const initial = new Map([['parameters' as const, initialVector(autoencoder, 0)]]);
  const backend = await create(settings, initial, batches);
  const engine = new Engine(backend, settings, batches, stepSchedule(args, 2), initial);
  const reports = await engine.run(0, 2);
  const parameters = (await engine.state()).get('parameters') ?? new Float32Array();
  await engine.release();
  return { reports, parameters };
}

function distance(a: Float32Array, b: Float32Array): number {
  return Math.hypot(...a.map((value, i) => value - (b[i] ?? Number.NaN)));
}

describe.each(kinds)('the backends with a %s autoencoder', (kind) => {
  it('take the same steps', async () => {
    const host = await stepsBy(kind, (settings, initial) => HostBackend.create(settings, initial));
    const others = {
      fused: await stepsBy(kind, (settings, initial, batches) =>
        FusedBackend.create(
          settings,
          'cpu',
          initial,
          batches,
          stepSchedule(resolveTrainingArguments({ output_dir: 'unused' }), 2),
        ),
      ),
      device: await stepsBy(kind, (settings, initial) => DeviceBackend.create(settings, 'cpu', initial)),
      tfjs: await stepsBy(kind, (settings, initial) => TfjsBackend.create(asTfjs(tf), settings, initial)),
    };
    for (const [name, { reports, parameters }] of Object.entries(others)) {
      for (const [key, value] of Object.entries(host.reports[1] ?? {}))
        expect(Math.abs((reports[1]?.[key] ?? Number.NaN) / value - 1), `${name} ${key}`).toBeLessThan(2e-3);
      // Adam divides by the size of a gradient: where that is rounding, the sign of a step of 1e-3 is chance.
      expect(distance(parameters, host.parameters), name).toBeLessThan(0.02);
    }
  });
});

describe('a step of', () => {
  it('a kl autoencoder has the same bits on one rank and on two', async () => {
    const train = (ranks: number) => {
      const args = resolveTrainingArguments({
        output_dir: 'unused',
        per_device_train_batch_size: 2,
        gradient_accumulation_steps: 4 / ranks,
      });
      const autoencoder = tinyAutoencoders.kl();
      const objective = new AutoencoderObjective(autoencoder, autoencoderLoss(), [1, 8, 8]);
      const samples = imageSamples(stripes(), { random_flip: true });
      return Promise.all(
        (ranks === 1 ? [SINGLE] : localGroup(ranks)).map(async (communicator) => {
          const own = { first: (communicator.rank * 8) / ranks, count: 8 / ranks };
          const batches = new BatchStream(samples, { batchSize: 8, own, seed: 0, noiseSize: objective.noiseSize });
          const initial = new Map([['parameters' as const, initialVector(autoencoder, 0)]]);
          const settings = settingsOf(objective, args, { ranks });
          const schedule = stepSchedule(args, 2);
          const engine = await Engine.create(settings, { device: 'cpu' }, initial, batches, schedule, communicator);
          const outcome = { reports: await engine.run(0, 2), state: await engine.state() };
          await engine.release();
          return outcome;
        }),
      );
    };
    const [alone] = await train(1);
    for (const outcome of await train(2)) expect(outcome).toEqual(alone);
  });

  it('a vq autoencoder computes in float16 with a scaled loss', async () => {
    const exact = await stepsBy('vq', (settings, initial) => DeviceBackend.create(settings, 'cpu', initial));
    const half = await stepsBy('vq', (settings, initial) => HostBackend.create(settings, initial), 'fp16');
    expect(half.reports[1]?.skipped_steps).toBe(0);
    for (const key of ['loss', 'reconstruction'])
      expect(half.reports[1]?.[key]).toBeCloseTo(exact.reports[1]?.[key] ?? Number.NaN, 2);
  });
});

describe('the perceptual term', () => {
  it('is the mean squared difference of the features of an ONNX file, and its gradient reaches the decoder', async () => {
    const file = path.join(folder, 'features.onnx');
    const graph = new Graph('features');
    const images = graph.input('images', 'float32', ['batch', 3, 8, 8]);
    const filters = new RandomStream(2).fillNormal(new Float32Array(5 * 3 * 9));
    const maps = relu(
      conv2d(images, graph.constant('float32', [5, 3, 3, 3], filters), undefined, { pads: [1, 1, 1, 1] }),
    );
    graph.output('maps', maps);
    graph.output('pooled', averagePool(maps, [2, 2]));
    writeFileSync(file, writeOnnx(graph));
    const extractor = await OnnxFeatureMaps.load(file, { outputs: ['maps', 'pooled'], image_mean: [0.4, 0.5, 0.6] });
    const loss = autoencoderLoss({ perceptual: { extractor, weight: 0.5 }, kl_weight: 0 });
    expect(loss.config).toMatchObject({ perceptual_weight: 0.5, extractor: { name: 'onnx' } });
    const output_dir = path.join(folder, 'perceptual');
    const steps: StepMetrics[] = [];
    const trainer = smallAutoencoderTrainer(
      { output_dir, max_steps: 10, logging_steps: 1, warmup_steps: 0, learning_rate: 1e-2 },
      [{ onStep: (_, metrics) => void steps.push(metrics) }],
      'kl',
      { loss, changeable_scalars: ['perceptual_weight'] },
    );
    await trainer.train();
    const [first, last] = [steps[0], steps.at(-1)];
    expect(first?.loss).toBeCloseTo((first?.reconstruction ?? 0) + 0.5 * (first?.perceptual ?? 0), 4);
    expect(last?.perceptual).toBeLessThan(first?.perceptual ?? 0);
  });

  it('refuses outputs that the file does not compute, and images of another size', async () => {
    const file = path.join(folder, 'features.onnx');
    await expect(OnnxFeatureMaps.load(file, { outputs: ['relu9'] })).rejects.toThrow(/'relu9', which no node of/);
    await expect(OnnxFeatureMaps.load(file, { image_std: [1, 1, 0] })).rejects.toThrow(InvalidArgumentError);
    const graph = new Graph('other');
    const extractor = await OnnxFeatureMaps.load(file);
    expect(() => extractor.features(graph.input('images', 'float32', [2, 3, 16, 16]))).toThrow(/takes images of/);
  });
});

describe('bad input', () => {
  const args = { output_dir: 'unused' };
  const make = (others: object) => () =>
    new AutoencoderTrainer({ autoencoder: tinyAutoencoders.kl(), args, train_dataset: stripes(), ...others });
  it.each([
    ['no autoencoder', { autoencoder: undefined }, /autoencoder/],
    ['points', { train_dataset: { name: 'points', count: 1, dims: 2, data: new Float32Array(2) } }, /has no images/],
    [
      'a colour set',
      { train_dataset: { ...stripes(), channels: 3 } },
      /takes 1 channels: load the images with channels: 1/,
    ],
    ['a size that cannot be halved', { train_dataset: { ...stripes(), height: 7 } }, /multiples of 2/],
    ['evaluation of others', { eval_dataset: { ...stripes(), channels: 3 } }, /takes 1 channels/],
    ['eval_steps alone', { eval_steps: 3 }, /no eval_dataset/],
    ['eval_steps 0', { eval_steps: 0, eval_dataset: stripes() }, /interval_steps 0/],
    [
      'an argument of diffusion',
      { args: { ...args, noise_offset: 0.1 } },
      /noise_offset is 0.1, but belongs to diffusion/,
    ],
    ['a loss of diffusion', { loss: { config: {} } }, /loss/],
    ['a scalar that is none', { changeable_scalars: ['lambda'] }, /no such scalar/],
  ])('%s is refused by name', (_, others, message) => {
    expect(make(others)).toThrow(InvalidArgumentError);
    expect(make(others)).toThrow(message);
  });

  it.each([
    { kl_weight: -1 },
    { commitment_weight: Number.NaN },
    { codebook_weight: Number.POSITIVE_INFINITY },
    { reconstruction: 'l3' as 'l2' },
  ])('autoencoderLoss refuses %o', (options) => {
    expect(() => autoencoderLoss(options)).toThrow(InvalidArgumentError);
  });

  it('evaluate() asks for images', async () => {
    await expect(make({})().evaluate()).rejects.toThrow(/needs images/);
  });
});
