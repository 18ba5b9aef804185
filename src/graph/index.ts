/**
 * `iso-diffusion/graph`: computations as ONNX graphs, for losses, models and ops of one's own.
 *
 * A `Value` is a tensor of a `Graph`: it has a dtype and a shape, and no numbers until the graph runs. Ops take values, add
 * nodes to their graph and return values; `gradients` adds the backward pass; `writeOnnx` makes the graph an ONNX file.
 * Ops infer dtypes and shapes, and throw a `GraphError` when their inputs do not fit together.
 *
 * @packageDocumentation
 */

export { checkpoint } from './autodiff/checkpoint.ts';
export { type CustomGradient, withGradient } from './autodiff/custom.ts';
export { gradients } from './autodiff/gradients.ts';
export { type Attribute, type Attributes, Graph, type GraphNode, type GraphTarget, type Value } from './graph.ts';
export { type InputShapes, type ReadOnnxOptions, readOnnx } from './onnx/read.ts';
export { writeOnnx } from './onnx/write.ts';
export {
  type Conv2dOptions,
  type ConvTranspose2dOptions,
  conv2d,
  convTranspose2d,
  type Pair,
} from './ops/conv/conv.ts';
export * from './ops/dropout.ts';
export * from './ops/elementwise.ts';
export { gather, pad, slice, tile } from './ops/indexing.ts';
export * from './ops/loop.ts';
export * from './ops/matmul.ts';
export {
  type BatchNormStatistics,
  batchNorm,
  groupNorm,
  layerNorm,
  softmax,
} from './ops/normalization.ts';
export {
  type AveragePool2dOptions,
  averagePool,
  globalAveragePool,
  maxPool,
  type Pool2dOptions,
  upsampleNearest,
} from './ops/pooling.ts';
export { argMin, type ReduceOptions, reduceMax, reduceMean, reduceMin, reduceSum, sumTo } from './ops/reduce.ts';
export * from './ops/shape.ts';
export {
  type ApplyOptions,
  apply,
  applyOp,
  constantIntegers,
  defineOp,
  float,
  floatAttribute,
  type GradientContext,
  type InferenceContext,
  type InputGradient,
  int,
  int64Vector,
  intAttribute,
  ints,
  intsAttribute,
  type OpDefinition,
  required,
  scalarLike,
  text,
  textAttribute,
} from './registry.ts';
export type { Dim, DType, Shape, TensorData, TensorType } from './types.ts';
