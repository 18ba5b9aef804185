import { Graph, type Value } from '../../../graph/graph.ts';
import { type Conv2dOptions, conv2d } from '../../../graph/ops/conv/geometry.ts';
import { fixedShape } from '../../../graph/types.ts';

/** Gives the graph value of a tensor of the state dict. */
export type ParameterSource = (name: string, shape: readonly number[]) => Value;

/** Takes note of what a module gives, by name, and returns it. */
export type KeepLayer = (name: string, value: Value) => Value;

/** A network whose layers are used as features, with the tensor names of its PyTorch state dict. */
export interface FeatureNetwork {
  readonly name: string;
  /** Height and width of the images it was trained with. */
  readonly imageSize: number;
  /** A tensor that no other network has. */
  readonly landmark: string;
  /** Tensors of the state dict that inference does not use; they may be there or not. */
  readonly unused: RegExp;
  /** Names of the layers that are features, (n, dims) each. */
  readonly features: readonly string[];
  /**
   * Adds the network to the graph of `images`.
   *
   * @param images [batch, 3, imageSize, imageSize], RGB in [-1, 1].
   * @param keep called with the features and with what every module gives.
   */
  build(images: Value, parameter: ParameterSource, keep: KeepLayer): void;
}

/** Names and shapes of the tensors that the network needs, in the order of its layers. */
export function parameterShapes(network: FeatureNetwork): Map<string, readonly number[]> {
  const graph = new Graph(network.name);
  const shapes = new Map<string, readonly number[]>();
  const parameter: ParameterSource = (name, shape) => {
    shapes.set(name, shape);
    return graph.input(name, 'float32', shape);
  };
  network.build(imagesInput(graph, network), parameter, (_, value) => value);
  return shapes;
}

/**
 * The network with `weights` put in: input `images` float32 ['batch_size', 3, imageSize, imageSize], RGB in [-1, 1];
 * the features, or the given layers, as outputs of their names.
 */
export function featureGraph(
  network: FeatureNetwork,
  weights: (name: string) => Float32Array,
  layers: readonly string[] = network.features,
): Graph {
  const graph = new Graph(network.name);
  const values = new Map<string, Value>();
  const parameter: ParameterSource = (name, shape) => graph.constant('float32', shape, weights(name), name);
  network.build(imagesInput(graph, network), parameter, (name, value) => {
    values.set(name, value);
    return value;
  });
  for (const layer of layers) {
    const value = values.get(layer);
    if (value) graph.output(layer, value);
  }
  return graph;
}

function imagesInput(graph: Graph, { imageSize }: FeatureNetwork): Value {
  return graph.input('images', 'float32', ['batch_size', 3, imageSize, imageSize]);
}

/** Convolution by the weight `name.weight`, [filters, channels of x, ...kernel], and with `bias` by `name.bias`. */
export function convolution(
  x: Value,
  parameter: ParameterSource,
  name: string,
  filters: number,
  kernel: readonly [number, number],
  options: Conv2dOptions & { readonly bias?: boolean },
): Value {
  const [channels = 0] = fixedShape(x.shape.slice(1, 2));
  const { bias, ...geometry } = options;
  const weight = parameter(`${name}.weight`, [filters, channels, ...kernel]);
  return conv2d(x, weight, bias ? parameter(`${name}.bias`, [filters]) : undefined, geometry);
}
