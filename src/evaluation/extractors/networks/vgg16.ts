import type { Value } from '../../../graph/graph.ts';
import { add, mul, relu } from '../../../graph/ops/elementwise.ts';
import { gemm } from '../../../graph/ops/matmul.ts';
import { maxPool } from '../../../graph/ops/pooling.ts';
import { reshape } from '../../../graph/ops/shape.ts';
import { fixedShape } from '../../../graph/types.ts';
import { convolution, type FeatureNetwork, type KeepLayer, type ParameterSource } from './feature-network.ts';

export interface Vgg16Options {
  /** Divides all numbers of channels, for tests. Default 1. */
  readonly narrow?: number;
}

/** Filters of the 3x3 convolutions between the max pools (Simonyan & Zisserman 2015, configuration D). */
const FILTERS = [
  [64, 64],
  [128, 128],
  [256, 256, 256],
  [512, 512, 512],
  [512, 512, 512],
];
/** The scaling that torchvision's models were trained with, in units where white is 1. */
const MEAN = [0.485, 0.456, 0.406];
const STD = [0.229, 0.224, 0.225];

/**
 * torchvision's VGG16, whose second fully connected layer gives the features of improved precision and recall
 * (Kynkäänniemi et al. 2019): `fc2_relu` as torch-fidelity compares them, `fc2` before the ReLU; and `logits`.
 */
export function vgg16({ narrow = 1 }: Vgg16Options = {}): FeatureNetwork {
  return {
    name: 'vgg16',
    imageSize: 224,
    landmark: 'classifier.6.weight',
    unused: /^$/,
    features: ['fc2', 'fc2_relu', 'logits'],
    build: (...args) => buildVgg(narrow, ...args),
  };
}

function buildVgg(narrow: number, images: Value, parameter: ParameterSource, keep: KeepLayer): void {
  const last = vgg16Convolutions(narrow, images, parameter, keep).at(-1) as Value;
  const x = keep('features.30', maxPool(last, [2, 2]));
  const linear = (name: string, input: Value, outputs: number) => {
    const [inputs = 0] = fixedShape(input.shape.slice(1));
    const weight = parameter(`${name}.weight`, [outputs, inputs]);
    return gemm(input, weight, parameter(`${name}.bias`, [outputs]), { transB: true });
  };
  const flat = reshape(x, [0, fixedShape(x.shape.slice(1)).reduce((product, length) => product * length, 1)]);
  const fc1 = keep('fc1_relu', relu(linear('classifier.0', flat, 4096 / narrow)));
  const fc2 = keep('fc2', linear('classifier.3', fc1, 4096 / narrow));
  const activated = keep('fc2_relu', relu(fc2));
  keep('logits', linear('classifier.6', activated, 1000));
}

/**
 * The convolutions with the max pools between them: what the last convolution of each stage gives, after its ReLU.
 *
 * @param images [batch, 3, height, width], RGB in [-1, 1], of at least 16 pixels a side.
 */
export function vgg16Convolutions(
  narrow: number,
  images: Value,
  parameter: ParameterSource,
  keep: KeepLayer = (_, value) => value,
): Value[] {
  let x = keep('normalised', imagenetScale(images));
  let index = 0;
  return FILTERS.map((stage, number) => {
    if (number > 0) {
      x = keep(`features.${index}`, maxPool(x, [2, 2]));
      index += 1;
    }
    for (const filters of stage) {
      const name = `features.${index}`;
      const options = { pads: [1, 1, 1, 1], bias: true } as const;
      x = keep(name, relu(convolution(x, parameter, name, filters / narrow, [3, 3], options)));
      index += 2;
    }
    return x;
  });
}

/** From [-1, 1] to mean 0 and variance 1 of the colours of ImageNet. */
function imagenetScale(images: Value): Value {
  const perChannel = (values: readonly number[]) =>
    images.graph.constant('float32', [1, 3, 1, 1], Float32Array.from(values));
  const factor = perChannel(STD.map((std) => 0.5 / std));
  const offset = perChannel(STD.map((std, channel) => (0.5 - (MEAN[channel] ?? 0)) / std));
  return add(mul(images, factor), offset);
}
