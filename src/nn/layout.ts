import type { Value } from '../graph/graph.ts';
import { type Conv2dOptions, conv2d } from '../graph/ops/conv/geometry.ts';
import { add, mul } from '../graph/ops/elementwise.ts';
import { matmul } from '../graph/ops/matmul.ts';
import { groupNorm, softmax } from '../graph/ops/normalization.ts';
import { averagePool, upsampleNearest2x } from '../graph/ops/pooling.ts';
import { concat, reshape, transpose, unsqueeze } from '../graph/ops/shape.ts';
import { scalarLike } from '../graph/registry.ts';
import { fixedShape } from '../graph/types.ts';

/**
 * A memory order of feature maps, with the operations of a convolutional network in it. A network written against this
 * interface gives the same results in every layout; the layout decides how fast they are. `nchw` and `hwnc` are the two.
 */
export interface Layout {
  /** From images [batch, channels, height, width]. */
  fromImages(images: Value): Value;
  /** Back to images [batch, channels, height, width]. */
  toImages(maps: Value): Value;
  /** The axes of feature maps in the order of images. */
  readonly imageAxes: readonly number[];
  /** The axes of filters [out, in, kernel height, kernel width] in the order in which `conv2d` takes them. */
  readonly filterAxes: readonly number[];
  /** A convolution without groups or dilations; bias [out]. */
  conv2d(maps: Value, filters: Value, bias: Value, options: Pick<Conv2dOptions, 'strides' | 'pads'>): Value;
  /** Group normalisation as in torch; weight and bias [channels]. */
  groupNorm(maps: Value, groups: number, weight: Value, bias: Value, epsilon: number): Value;
  /** [batch or 1, channels] in a shape that broadcasts over the pixels. */
  perChannel(values: Value): Value;
  /** Joins feature maps of the same size along their channels. */
  concatChannels(maps: readonly Value[]): Value;
  /** Every pixel twice in both directions. */
  upsampleNearest2x(maps: Value): Value;
  /** Means over windows of 2 x 2 pixels; height and width are even. */
  averagePool2x(maps: Value): Value;
  /**
   * Self-attention over the pixels, softmax(q k^T / sqrt(d)) v in heads of `headDim` channels. Query, key and value have
   * weights [heads x headDim, channels], and the output [channels, heads x headDim].
   */
  attention(maps: Value, projections: AttentionProjections, headDim: number): Value;
}

/** A dense layer: weight [out, in] and bias [out]. */
export interface Projection {
  /** [out, in]. */
  readonly weight: Value;
  /** [out]. */
  readonly bias: Value;
}

/** The four dense layers of an attention. */
export interface AttentionProjections {
  /** What a pixel looks for. */
  readonly query: Projection;
  /** What it is found by. */
  readonly key: Projection;
  /** What it gives to those that find it. */
  readonly value: Projection;
  /** Joins the heads. */
  readonly output: Projection;
}

/** [batch, channels, height, width], the order of torch and ONNX: what is exported, and what GPUs run. */
export const nchw: Layout = {
  fromImages: (images) => images,
  toImages: (maps) => maps,
  imageAxes: [0, 1, 2, 3],
  filterAxes: [0, 1, 2, 3],
  conv2d,
  groupNorm,
  perChannel: (values) => unsqueeze(values, [2, 3]),
  concatChannels: (maps) => concat(maps, 1),
  upsampleNearest2x,
  averagePool2x: (maps) => averagePool(maps, [2, 2]),
  attention: (maps, { query, key, value, output }, headDim) => {
    const [channels = 1, height = 1, width = 1] = fixedShape(maps.shape.slice(1));
    const [inner = 1] = fixedShape(query.weight.shape);
    const pixels = reshape(maps, [0, channels, height * width]);
    const toHeads = (projection: Projection) =>
      reshape(project(projection, pixels), [0, inner / headDim, headDim, height * width]);
    const scaled = mul(toHeads(query), scalarLike(maps, headDim ** -0.5));
    const weights = softmax(matmul(transpose(scaled, [0, 1, 3, 2]), toHeads(key)));
    const mixed = matmul(toHeads(value), transpose(weights, [0, 1, 3, 2]));
    const joined = project(output, reshape(mixed, [0, inner, height * width]));
    return reshape(joined, [0, channels, height, width]);
  },
};

/** A dense layer on channels-first pixels [batch, channels, pixels], which spares the transposes of torch's layout. */
function project({ weight, bias }: Projection, pixels: Value): Value {
  return add(matmul(weight, pixels), reshape(bias, [-1, 1]));
}

/**
 * What Transpose does, on the host: the tensor `data` of `shape`, row-major, with its axes in the order `axes`.
 * `inverseAxes(axes)` leads back.
 *
 * @example
 * permuteAxes(Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3], [1, 0]); // 1, 4, 2, 5, 3, 6
 */
export function permuteAxes(
  data: Float32Array,
  shape: readonly number[],
  axes: readonly number[],
  result = new Float32Array(data.length),
): Float32Array<ArrayBuffer> {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, dim) => product * dim, 1));
  const dims = axes.map((axis) => shape[axis] ?? 1);
  const steps = axes.map((axis) => strides[axis] ?? 0);
  let written = 0;
  const walk = (axis: number, offset: number): void => {
    const step = steps[axis] ?? 0;
    const end = offset + (dims[axis] ?? 1) * step;
    if (axis < dims.length - 1) for (let at = offset; at < end; at += step) walk(axis + 1, at);
    else for (let at = offset; at < end; at += step) result[written++] = data[at] as number;
  };
  if (data.length > 0) walk(0, 0);
  return result;
}

export function inverseAxes(axes: readonly number[]): number[] {
  return axes.map((_, axis) => axes.indexOf(axis));
}
