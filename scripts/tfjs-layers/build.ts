import { GraphError } from '../../src/errors.ts';
import type { Value } from '../../src/graph/graph.ts';
import {
  add,
  averagePool,
  batchNorm,
  concat,
  conv2d,
  matmul,
  maxPool,
  relu,
  reshape,
  softmax,
  transpose,
} from '../../src/graph/ops/index.ts';
import { fixedShape } from '../../src/graph/types.ts';
import type { Layer, Topology } from './topology.ts';
import type { LayerWeight } from './weights.ts';

/**
 * Adds a tfjs layers model to the graph of `images`. Keras keeps channels last, the graph first: weights are turned
 * here, once.
 *
 * @param images [batch, 3, height, width], scaled as the model wants.
 * @returns what each layer gives, by its name, in nchw; of a Dense with softmax also `NAME/logits`.
 * @throws {GraphError} when layers or weights do not fit together.
 */
export function buildLayers(
  { layers }: Topology,
  weights: ReadonlyMap<string, LayerWeight>,
  images: Value,
): Map<string, Value> {
  const values = new Map<string, Value>();
  for (const layer of layers) {
    const { name } = layer.config;
    const inputs = (layer.inbound_nodes[0] ?? []).map(([source]) => {
      const value = values.get(source);
      if (value) return value;
      throw new GraphError(`layer '${name}' takes '${source}', which is not computed before it`);
    });
    if (layer.class_name === 'InputLayer') {
      values.set(name, images);
      continue;
    }
    const [x] = inputs;
    if (!x) throw new GraphError(`layer '${name}' has no input`);
    const weight = (key: string, shape: readonly number[]) => weightOf(weights, `${name}/${key}`, shape);
    if (layer.class_name === 'Dense') {
      const { units, activation, use_bias } = layer.config;
      const logits = dense(x, units, use_bias, weight);
      if (activation === 'softmax') values.set(`${name}/logits`, logits);
      values.set(name, activate(logits, activation));
    } else {
      values.set(name, applyLayer(layer, x, inputs, weight));
    }
  }
  return values;
}

type WeightSource = (key: string, shape: readonly number[]) => Float32Array;

function applyLayer(
  layer: Exclude<Layer, { class_name: 'InputLayer' | 'Dense' }>,
  x: Value,
  inputs: readonly Value[],
  weight: WeightSource,
): Value {
  switch (layer.class_name) {
    case 'Conv2D':
      return convolve(x, layer.config, weight);
    case 'BatchNormalization':
      return normalise(x, layer.config, weight);
    case 'Activation':
      return activate(x, layer.config.activation);
    case 'MaxPooling2D':
      return maxPool(x, layer.config.pool_size, windowPlacement(x, layer.config.pool_size, layer.config));
    case 'AveragePooling2D':
      return averagePool(x, layer.config.pool_size, windowPlacement(x, layer.config.pool_size, layer.config));
    case 'Concatenate':
      return concat(inputs, 1);
    case 'Flatten':
      return flatten(x);
    case 'Dropout':
      return x;
  }
}

type ConfigOf<Name extends Layer['class_name']> = Extract<Layer, { class_name: Name }>['config'];

function convolve(x: Value, config: ConfigOf<'Conv2D'>, weight: WeightSource): Value {
  const { filters, kernel_size, use_bias, activation } = config;
  const [channels = 0] = fixedShape(x.shape.slice(1, 2));
  const [height, width] = kernel_size;
  const kernel = weight('kernel', [height, width, channels, filters]);
  const turned = new Float32Array(kernel.length);
  const pixels = height * width;
  for (let pixel = 0; pixel < pixels; pixel++)
    for (let c = 0; c < channels; c++)
      for (let f = 0; f < filters; f++)
        turned[(f * channels + c) * pixels + pixel] = kernel[(pixel * channels + c) * filters + f] as number;
  const bias = use_bias
    ? x.graph.constant('float32', [filters], weight('bias', [filters]), `${config.name}/bias`)
    : undefined;
  const shape = [filters, channels, height, width];
  const filtersOfGraph = x.graph.constant('float32', shape, turned, `${config.name}/kernel`);
  return activate(conv2d(x, filtersOfGraph, bias, windowPlacement(x, kernel_size, config)), activation);
}

function normalise(x: Value, config: ConfigOf<'BatchNormalization'>, weight: WeightSource): Value {
  const [channels = 0] = fixedShape(x.shape.slice(1, 2));
  const statistic = (key: string) => x.graph.constant('float32', [channels], weight(key, [channels]));
  const all = (value: number) => x.graph.constant('float32', [channels], new Float32Array(channels).fill(value));
  return batchNorm(
    x,
    {
      scale: config.scale ? statistic('gamma') : all(1),
      bias: config.center ? statistic('beta') : all(0),
      mean: statistic('moving_mean'),
      variance: statistic('moving_variance'),
    },
    config.epsilon,
  );
}

function dense(x: Value, units: number, hasBias: boolean, weight: WeightSource): Value {
  const [inputs = 0] = fixedShape(x.shape.slice(1));
  const kernel = x.graph.constant('float32', [inputs, units], weight('kernel', [inputs, units]));
  const product = matmul(x, kernel);
  return hasBias ? add(product, x.graph.constant('float32', [units], weight('bias', [units]))) : product;
}

function activate(x: Value, activation: 'linear' | 'relu' | 'softmax'): Value {
  if (activation === 'relu') return relu(x);
  return activation === 'softmax' ? softmax(x) : x;
}

/** In Keras' order, height, width, channels. */
function flatten(x: Value): Value {
  const [, channels = 1, height = 1, width = 1] = x.shape;
  const sizes = fixedShape([channels, height, width]);
  const last = height === 1 && width === 1 ? x : transpose(x, [0, 2, 3, 1]);
  return reshape(last, [0, sizes.reduce((product, size) => product * size, 1)]);
}

/** TensorFlow's 'same' gives ceil(length / stride) windows and puts an odd row or column of padding at the end. */
function windowPlacement(
  x: Value,
  window: readonly [number, number],
  { strides, padding }: { strides: readonly [number, number]; padding: 'same' | 'valid' },
) {
  const lengths = fixedShape(x.shape.slice(2));
  const [vertical = 0, horizontal = 0] = lengths.map((length, side) => {
    const stride = strides[side] ?? 1;
    const reached = (Math.ceil(length / stride) - 1) * stride + (window[side] ?? 1);
    return padding === 'same' ? Math.max(0, reached - length) : 0;
  });
  const [top, left] = [Math.floor(vertical / 2), Math.floor(horizontal / 2)];
  return { strides, pads: [top, left, vertical - top, horizontal - left] as const };
}

function weightOf(weights: ReadonlyMap<string, LayerWeight>, name: string, shape: readonly number[]): Float32Array {
  const tensor = weights.get(name);
  if (tensor && tensor.shape.join() === shape.join()) return tensor.data;
  throw new GraphError(
    `the weight '${name}' should be [${shape.join(', ')}], but is ${tensor ? `[${tensor.shape.join(', ')}]` : 'missing'}`,
  );
}
