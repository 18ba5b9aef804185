import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hybridLoss, isoLoss } from '../../../src/losses/index.ts';
import { ConditionalDense, type DiffusionModel, type UNet2DOptions } from '../../../src/models/index.ts';
import { learnsVariance } from '../../../src/models/model.ts';
import { DDPMScheduler } from '../../../src/schedulers/ddpm.ts';
import { Trainer } from '../../../src/trainers/trainer.ts';
import { float64Cases } from '../../graph/gradient-cases.ts';
import { plainCases } from '../../graph/plain-cases.ts';
import { tinyUNet } from '../../models/tiny-unet.ts';
import { circle } from '../../trainers/small-trainer.ts';
import { stripes } from '../../trainers/stripes.ts';
import { byTfjs } from './compare-engines.ts';
import { tf } from './load-tf.ts';
import { recordKernels } from './record-kernels.ts';

interface BackendKernels {
  readonly version: string;
  /** The tfjs that it depends on, whose core has the gradients. */
  readonly tfjs: string;
  readonly kernels: readonly string[];
}
const fixture = new URL('../../fixtures/tfjs/kernels.json', import.meta.url);
/** Written by scripts/tfjs-kernels.ts from the packages' own sources. */
const backends: Readonly<Record<string, BackendKernels>> = JSON.parse(readFileSync(fixture, 'utf8')).packages;
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

describe('a step of training, recorded on the cpu backend of tfjs 4.22', () => {
  const { kernels, gradients } = recordKernels();
  const used = () => [...new Set(kernels.map(({ name }) => name))].sort();

  beforeAll(async () => {
    for (const [index, [model, prediction_type]] of models.entries()) {
      const trainer = new Trainer({
        model,
        args: {
          output_dir: path.join(folder, String(index)),
          max_steps: 1,
          per_device_train_batch_size: 1,
          gradient_accumulation_steps: index === 0 ? 2 : 1,
          max_grad_norm: 1,
          optim: 'adamw',
          use_ema: true,
          class_dropout_prob: model.classCount ? 0.1 : 0,
        },
        train_dataset: model.sampleShape.length === 1 ? circle() : stripes(),
        loss: learnsVariance(model) ? hybridLoss({ base: isoLoss({ lambda: 0.1 }) }) : isoLoss({ lambda: 0.1 }),
        noise_scheduler: new DDPMScheduler({ prediction_type }),
        engine: 'tfjs',
        tf,
      });
      await trainer.train();
    }
    for (const test of [...float64Cases, ...plainCases].filter(({ name }) => ONNX_ONLY.test(name))) await byTfjs(test);
  });

  it('runs the kernels of convolution, attention and embedding, and their gradients', () => {
    const expected = ['BatchMatMul', 'Concat', 'Conv2D', 'GatherV2', 'Mean', 'Sigmoid', 'Softmax', 'Transpose'];
    expect(used()).toEqual(expect.arrayContaining([...expected, 'Conv2DBackpropFilter', 'UnsortedSegmentSum']));
    expect([...gradients]).toEqual(expect.arrayContaining(expected));
  });

  it.each(Object.entries(backends))('needs no kernel that %s does not register', (_name, backend) => {
    expect(used().filter((name) => !backend.kernels.includes(name))).toEqual([]);
  });

  it.each(Object.entries(backends))('needs no gradient beyond those of the tfjs of %s', (_name, { tfjs }) => {
    // Every gradient function that ran was registered by the tfjs-core under test.
    const series = (version: string) => version.split('.').slice(0, 2).join('.');
    expect(series(tfjs)).toBe(series(tf.version.tfjs));
    expect([...gradients].filter((name) => !tf.getGradient(name))).toEqual([]);
  });

  it('keeps to what the kernels of tfjs-node can do', () => {
    const convolutions = kernels.filter(({ name }) => name.startsWith('Conv2D'));
    expect(convolutions.length).toBeGreaterThan(0);
    for (const { attributes } of convolutions) {
      // TensorFlow's CPU kernels: channels last. tfjs-node's Conv2DBackpropInput and -Filter: no other pads.
      expect(attributes.dataFormat).toBe('NHWC');
      expect(['valid', 'same']).toContain(attributes.pad);
    }
    // Nor have the gradients of its pools.
    const pools = kernels.filter(({ name }) => /^(Max|Avg)Pool/.test(name));
    expect(new Set(pools.map(({ name }) => name)).size).toBe(4);
    for (const { attributes } of pools) expect(attributes.pad).toBe('valid');
    // TensorFlow's Select does not broadcast.
    const selections = kernels.filter(({ name }) => name === 'Select');
    expect(selections.length).toBeGreaterThan(0);
    for (const { inputs } of selections) {
      const shapes = Object.values(inputs).map((input) => input?.shape);
      expect(shapes).toEqual(shapes.map(() => shapes[0]));
    }
  });
});
