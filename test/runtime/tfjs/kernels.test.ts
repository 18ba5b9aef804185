import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Rank } from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hybridLoss, isoLoss } from '../../../src/losses/index.ts';
import { ConditionalDense, type DiffusionModel, type UNet2DOptions } from '../../../src/models/index.ts';
import { learnsVariance } from '../../../src/models/model.ts';
import { DDPMScheduler } from '../../../src/schedulers/ddpm.ts';
import { Trainer } from '../../../src/trainers/trainer.ts';
import type { TrainerOptions } from '../../../src/trainers/trainer-options.ts';
import { float64Cases } from '../../graph/gradient-cases.ts';
import { plainCases } from '../../graph/plain-cases.ts';
import { relativeError } from '../../models/run-graph.ts';
import { tinyUNet } from '../../models/tiny-unet.ts';
import { circle } from '../../trainers/small-trainer.ts';
import { stripes } from '../../trainers/stripes.ts';
import { byTfjs } from './compare-engines.ts';
import { tf } from './load-tf.ts';
import { backends, NODE_BACKEND, useNodeBackend } from './node-backend.ts';
import { recordKernels } from './record-kernels.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'iso-tfjs-kernels-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const unet = (options: UNet2DOptions) =>
  tinyUNet({ block_out_channels: [4, 4], norm_num_groups: 2, attention_head_dim: 2, ...options });
/** Every option that changes which ops the U-Net is made of, and every prediction type. */
const models: [DiffusionModel, 'epsilon' | 'v_prediction' | 'sample'][] = [
  [new ConditionalDense({ hidden_features: 8 }), 'epsilon'],
  [unet({ num_class_embeds: 3, downsample_padding: 0 }), 'epsilon'],
  [unet({ resnet_time_scale_shift: 'scale_shift', block_out_channels: [4, 6] }), 'v_prediction'],
  [unet({ act_fn: 'relu', mid_block_scale_factor: 2, center_input_sample: true }), 'sample'],
  [unet({ out_channels: 2, dropout: 0.2 }), 'epsilon'],
];

/** Ops of files of other exporters, with their gradients. */
const ONNX_ONLY = /^(Ceil|Floor|Round|Sign|ReduceMax|ReduceMin|Tile|AveragePool|MaxPool)/;

describe('a step of training on the kernels of tfjs-node 4.22', () => {
  let recorded: ReturnType<typeof recordKernels>;
  const used = () => [...new Set(recorded.kernels.map(({ name }) => name))].sort();
  const reports: number[][] = [];

  /** A step of one of the models, and what it reports, with the weights at its end. */
  async function train(index: number, engine: Pick<TrainerOptions, 'engine' | 'tf'>): Promise<number[]> {
    const [model, prediction_type] = models[index] as (typeof models)[number];
    const reported: number[] = [];
    const trainer = new Trainer({
      model,
      args: {
        output_dir: path.join(folder, `${index} ${engine.engine}`),
        max_steps: 1,
        per_device_train_batch_size: 1,
        gradient_accumulation_steps: index === 0 ? 2 : 1,
        max_grad_norm: 1,
        optim: 'adamw',
        // A larger one keeps rounding in gradients near 0 from deciding an update.
        adam_epsilon: 1e-3,
        use_ema: true,
        class_dropout_prob: model.classCount ? 0.1 : 0,
        device: engine.tf ? 'auto' : 'cpu',
      },
      train_dataset: model.sampleShape.length === 1 ? circle() : stripes(),
      loss: learnsVariance(model) ? hybridLoss({ base: isoLoss({ lambda: 0.1 }) }) : isoLoss({ lambda: 0.1 }),
      noise_scheduler: new DDPMScheduler({ prediction_type }),
      callbacks: [{ onStep: (_state, metrics) => void reported.push(...Object.values(metrics)) }],
      ...engine,
    });
    await trainer.train();
    return [...reported, ...[...trainer.weights().values()].flatMap((weights) => [...weights])];
  }

  beforeAll(async () => {
    await useNodeBackend();
    recorded = recordKernels(NODE_BACKEND);
    for (const index of models.keys()) reports.push(await train(index, { engine: 'tfjs', tf }));
    for (const test of [...float64Cases, ...plainCases].filter(({ name }) => ONNX_ONLY.test(name))) await byTfjs(test);
  });

  it('runs the kernels of convolution, attention and embedding, and their gradients', () => {
    const expected = ['BatchMatMul', 'Concat', 'Conv2D', 'GatherV2', 'Mean', 'Sigmoid', 'Softmax', 'Transpose'];
    expect(tf.getBackend()).toBe(NODE_BACKEND);
    expect(used()).toEqual(expect.arrayContaining([...expected, 'Conv2DBackpropFilter', 'UnsortedSegmentSum']));
    expect([...recorded.gradients]).toEqual(expect.arrayContaining(expected));
    // The kernels that tfjs-node restricts most.
    expect(used().filter((name) => /^(Max|Avg)Pool|^Conv2D|^Select/.test(name))).toHaveLength(8);
  });

  it.each([
    ['the 2-D net', 0],
    ['a U-Net', 1],
  ])('has the losses and the weights of onnxruntime: %s', async (_name, index) => {
    const ours = await train(index, {});
    expect(ours.length).toBeGreaterThan(400);
    expect(relativeError(reports[index] ?? [], ours)).toBeLessThan(1e-5);
  });

  it('needs no kernel that tfjs-backend-webgpu does not register', () => {
    const { kernels = [] } = backends['@tensorflow/tfjs-backend-webgpu'] ?? {};
    expect(used().filter((name) => !kernels.includes(name))).toEqual([]);
  });

  it.each(Object.entries(backends))('needs no gradient beyond those of the tfjs of %s', (_name, { tfjs }) => {
    // Every gradient function that ran was registered by the tfjs-core under test.
    const series = (version: string) => version.split('.').slice(0, 2).join('.');
    expect(series(tfjs)).toBe(series(tf.version.tfjs));
    expect([...recorded.gradients].filter((name) => !tf.getGradient(name))).toEqual([]);
  });
});

describe('the kernels of tfjs-node refuse', () => {
  const images = () => tf.ones<Rank.R4>([1, 4, 4, 1]);
  const filter = () => tf.ones<Rank.R4>([3, 3, 1, 1]);

  it.each<[string, RegExp, () => unknown]>([
    [
      'what tfjs-node has no kernel for',
      /Kernel 'MaxPoolWithArgmax' not registered for backend 'tensorflow'/,
      () => tf.maxPoolWithArgmax(images(), 2, 2, 'valid'),
    ],
    ['pads as numbers', /Conv2D .* pads are 1/, () => tf.conv2d(images(), filter(), 1, 1)],
    ['pads of a pool', /MaxPool .* pads are 1/, () => tf.maxPool(images(), 3, 1, 1)],
    [
      'the channels first',
      /Conv2D .* layout is NCHW/,
      () => tf.conv2d(tf.ones<Rank.R4>([1, 1, 4, 4]), filter(), 1, 'valid', 'NCHW'),
    ],
    [
      'to broadcast a selection',
      /Select .* does not broadcast/,
      () =>
        tf.engine().runKernel('Select', { condition: tf.tensor1d([true, false], 'bool'), t: images(), e: images() }),
    ],
    [
      'two dtypes',
      /Add .* dtypes are float32 and int32/,
      () => tf.engine().runKernel('Add', { a: tf.scalar(1), b: tf.scalar(1, 'int32') }),
    ],
  ])('%s', (_name, message, compute) => {
    expect(() => tf.tidy(() => void compute())).toThrow(message);
  });
});
