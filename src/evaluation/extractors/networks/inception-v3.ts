import type { Value } from '../../../graph/graph.ts';
import { add, relu } from '../../../graph/ops/elementwise.ts';
import { gemm } from '../../../graph/ops/matmul.ts';
import { batchNorm } from '../../../graph/ops/normalization.ts';
import { averagePool, maxPool } from '../../../graph/ops/pooling.ts';
import { reduceMean } from '../../../graph/ops/reduce.ts';
import { concat } from '../../../graph/ops/shape.ts';
import { convolution, type FeatureNetwork, type KeepLayer, type ParameterSource } from './feature-network.ts';

export interface InceptionV3Options {
  /** Divides all numbers of channels, for tests. Default 1. */
  readonly narrow?: number;
}

/**
 * The Inception v3 of the FID (Szegedy et al. 2016; Heusel et al. 2017), as in pytorch-fid: it differs from
 * torchvision's in pools that leave out the padding, in a maximum pool in the last block, and in 1008 classes.
 *
 * Features, as torch-fidelity calls them: means over the pixels after the first and second max pool (`64`, `192`),
 * before the auxiliary classifier (`768`) and at the end (`2048`), `logits_unbiased` without and `logits` with bias.
 */
export function inceptionV3({ narrow = 1 }: InceptionV3Options = {}): FeatureNetwork {
  return {
    name: 'inception',
    imageSize: 299,
    landmark: 'Mixed_7c.branch_pool.conv.weight',
    unused: /\.num_batches_tracked$|^AuxLogits\./,
    features: ['64', '192', '768', '2048', 'logits_unbiased', 'logits'],
    build: (...args) => buildInception(narrow, ...args),
  };
}

const CLASSES = 1008;

function buildInception(narrow: number, images: Value, parameter: ParameterSource, keep: KeepLayer): void {
  const conv = convolutions(parameter, '', narrow);
  const block = (name: string, build: Block, x: Value) =>
    keep(name, concat(build(x, convolutions(parameter, `${name}.`, narrow)), 1));
  const stem = (name: string, x: Value, ...layer: ConvArguments) => keep(name, conv(name, ...layer)(x));

  let x = stem('Conv2d_1a_3x3', images, 32, 3, HALVED);
  x = stem('Conv2d_2a_3x3', x, 32, 3, VALID);
  x = stem('Conv2d_2b_3x3', x, 64, 3);
  x = keep('maxpool1', halve(x));
  keep('64', meanOverPixels(x));
  x = stem('Conv2d_3b_1x1', x, 80, 1);
  x = stem('Conv2d_4a_3x3', x, 192, 3, VALID);
  x = keep('maxpool2', halve(x));
  keep('192', meanOverPixels(x));
  x = block('Mixed_5b', blockA(32), x);
  x = block('Mixed_5c', blockA(64), x);
  x = block('Mixed_5d', blockA(64), x);
  x = block('Mixed_6a', blockB, x);
  x = block('Mixed_6b', blockC(128), x);
  x = block('Mixed_6c', blockC(160), x);
  x = block('Mixed_6d', blockC(160), x);
  x = block('Mixed_6e', blockC(192), x);
  keep('768', meanOverPixels(x));
  x = block('Mixed_7a', blockD, x);
  x = block('Mixed_7b', blockE(meanOfNeighbours), x);
  x = block('Mixed_7c', blockE(maximumOfNeighbours), x);
  const features = keep('2048', meanOverPixels(x));

  const weight = parameter('fc.weight', [CLASSES, 2048 / narrow]);
  const unbiased = keep('logits_unbiased', gemm(features, weight, undefined, { transB: true }));
  keep('logits', add(unbiased, parameter('fc.bias', [CLASSES])));
}

type Layer = (x: Value) => Value;
/** The branches of a block, which are joined along the channels. */
type Block = (x: Value, conv: Convolutions) => Value[];
type Placement = { readonly strides: readonly [number, number]; readonly padded: boolean };
/** Filters, kernel (of one side where it is square), and where it is applied; default at every pixel. */
type ConvArguments = [filters: number, kernel: number | readonly [number, number], placement?: Placement];
type Convolutions = (name: string, ...layer: ConvArguments) => Layer;

const SAME: Placement = { strides: [1, 1], padded: true };
const VALID: Placement = { strides: [1, 1], padded: false };
const HALVED: Placement = { strides: [2, 2], padded: false };

/** Convolution without bias, batch normalisation, ReLU: torchvision's BasicConv2d. */
function convolutions(parameter: ParameterSource, prefix: string, narrow: number): Convolutions {
  return (name, filters, kernel, { strides, padded } = SAME) =>
    (x) => {
      const [height, width] = typeof kernel === 'number' ? [kernel, kernel] : kernel;
      const [down, across] = padded ? [(height - 1) / 2, (width - 1) / 2] : [0, 0];
      const count = filters / narrow;
      const geometry = { strides, pads: [down, across, down, across] as const };
      const y = convolution(x, parameter, `${prefix}${name}.conv`, count, [height, width], geometry);
      const statistic = (key: string) => parameter(`${prefix}${name}.bn.${key}`, [count]);
      const normalised = batchNorm(
        y,
        {
          scale: statistic('weight'),
          bias: statistic('bias'),
          mean: statistic('running_mean'),
          variance: statistic('running_var'),
        },
        0.001,
      );
      return relu(normalised);
    };
}

const through = (x: Value, ...layers: readonly Layer[]) => layers.reduce((value, layer) => layer(value), x);
const meanOverPixels: Layer = (x) => reduceMean(x, [2, 3]);
const halve: Layer = (x) => maxPool(x, [3, 3], { strides: [2, 2] });
const NEIGHBOURS = { strides: [1, 1], pads: [1, 1, 1, 1] } as const;
const meanOfNeighbours: Layer = (x) => averagePool(x, [3, 3], NEIGHBOURS);
const maximumOfNeighbours: Layer = (x) => maxPool(x, [3, 3], NEIGHBOURS);
const TALL = [7, 1] as const;
const WIDE = [1, 7] as const;

function blockA(pooled: number): Block {
  return (x, conv) => [
    conv('branch1x1', 64, 1)(x),
    through(x, conv('branch5x5_1', 48, 1), conv('branch5x5_2', 64, 5)),
    through(x, conv('branch3x3dbl_1', 64, 1), conv('branch3x3dbl_2', 96, 3), conv('branch3x3dbl_3', 96, 3)),
    through(x, meanOfNeighbours, conv('branch_pool', pooled, 1)),
  ];
}

const blockB: Block = (x, conv) => [
  conv('branch3x3', 384, 3, HALVED)(x),
  through(x, conv('branch3x3dbl_1', 64, 1), conv('branch3x3dbl_2', 96, 3), conv('branch3x3dbl_3', 96, 3, HALVED)),
  halve(x),
];

function blockC(inner: number): Block {
  return (x, conv) => [
    conv('branch1x1', 192, 1)(x),
    through(x, conv('branch7x7_1', inner, 1), conv('branch7x7_2', inner, WIDE), conv('branch7x7_3', 192, TALL)),
    through(
      x,
      conv('branch7x7dbl_1', inner, 1),
      conv('branch7x7dbl_2', inner, TALL),
      conv('branch7x7dbl_3', inner, WIDE),
      conv('branch7x7dbl_4', inner, TALL),
      conv('branch7x7dbl_5', 192, WIDE),
    ),
    through(x, meanOfNeighbours, conv('branch_pool', 192, 1)),
  ];
}

const blockD: Block = (x, conv) => [
  through(x, conv('branch3x3_1', 192, 1), conv('branch3x3_2', 320, 3, HALVED)),
  through(
    x,
    conv('branch7x7x3_1', 192, 1),
    conv('branch7x7x3_2', 192, WIDE),
    conv('branch7x7x3_3', 192, TALL),
    conv('branch7x7x3_4', 192, 3, HALVED),
  ),
  halve(x),
];

function blockE(pool: Layer): Block {
  return (x, conv) => {
    const narrow = conv('branch3x3_1', 384, 1)(x);
    const double = through(x, conv('branch3x3dbl_1', 448, 1), conv('branch3x3dbl_2', 384, 3));
    return [
      conv('branch1x1', 320, 1)(x),
      conv('branch3x3_2a', 384, [1, 3])(narrow),
      conv('branch3x3_2b', 384, [3, 1])(narrow),
      conv('branch3x3dbl_3a', 384, [1, 3])(double),
      conv('branch3x3dbl_3b', 384, [3, 1])(double),
      through(x, pool, conv('branch_pool', 192, 1)),
    ];
  };
}
