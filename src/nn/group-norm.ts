import { GraphError } from '../errors.ts';
import { withGradient } from '../graph/autodiff/custom.ts';
import { orderedAfter, recomputable } from '../graph/autodiff/recompute.ts';
import type { Value } from '../graph/graph.ts';
import { add, cast, mul, reciprocal, sqrt, square, sub, widened } from '../graph/ops/elementwise.ts';
import { matmul } from '../graph/ops/matmul.ts';
import { reduceSum } from '../graph/ops/reduce.ts';
import { scalarLike } from '../graph/registry.ts';
import { fixedShape, formatShape, toTensorData } from '../graph/types.ts';

/**
 * Group normalisation (Wu & He 2018) as in torch, biased variance, of maps [height, width, batch, channels]; weight and bias
 * [channels]. A large result is computed again in the backward pass instead of kept.
 *
 * What belongs to an image and a channel is [batch, channels], which goes with every pixel as it is. Means over groups are
 * products with a matrix: they come in that shape too, where sums over an axis of the groups would need a Reshape before and
 * after each. In a small network, a node takes longer than the numbers in it.
 *
 * The forward pass reads the pixels four times. The backward pass needs only the maps, and reads them seven times. Sums and
 * statistics of float16 are float32.
 *
 * @throws {GraphError} when the groups do not divide the channels.
 */
export function groupNormOfPixels(maps: Value, groups: number, weight: Value, bias: Value, epsilon: number): Value {
  const [height = 1, width = 1, , channels = 1] = fixedShape(maps.shape);
  if (channels % groups !== 0)
    throw new GraphError(`groupNorm: ${groups} groups do not divide the channels of ${formatShape(maps.shape)}`);
  const [pixels, gamma, beta] = [widened(maps), widened(weight), widened(bias)];
  const averages = groupAverages(pixels, channels / groups, height * width);
  const sumOverPixels = (value: Value) => reduceSum(value, [0, 1]);
  // Not Gemm: onnxruntime's planner would know the rank of all that follows (see `src/graph/onnx/hidden-shapes.ts`).
  const meanOverGroup = (sums: Value) => matmul(sums, averages);
  const mean = meanOverGroup(sumOverPixels(pixels));
  const variance = sub(meanOverGroup(sumOverPixels(square(pixels))), square(mean));
  const inverse = reciprocal(sqrt(add(variance, scalarLike(variance, epsilon))));
  const scale = mul(inverse, gamma);
  const factor = cast(scale, maps.dtype);
  const summand = cast(sub(beta, mul(mean, scale)), maps.dtype);
  const output = add(mul(maps, factor), summand);
  recomputable(output, (trigger) => add(mul(maps, orderedAfter(factor, [trigger])), summand));

  return withGradient(output, [maps, weight, bias], (dy) => {
    const dyTotal = sumOverPixels(widened(dy));
    // The sum of dy times the normalised maps, which are not kept. Nor are the maps in float32, so the product is of their type.
    const dyNormalised = mul(sub(sumOverPixels(widened(mul(dy, maps))), mul(mean, dyTotal)), inverse);
    const slope = mul(square(inverse), meanOverGroup(mul(dyNormalised, gamma)));
    const offset = sub(mul(inverse, meanOverGroup(mul(dyTotal, gamma))), mul(slope, mean));
    const dMaps = sub(sub(mul(dy, factor), mul(maps, cast(slope, maps.dtype))), cast(offset, maps.dtype));
    const sumOverBatch = (value: Value) => cast(reduceSum(value, [0]), weight.dtype);
    return [dMaps, sumOverBatch(dyNormalised), sumOverBatch(dyTotal)];
  });
}

/** From sums over pixels [batch, channels] to the mean over the group of each channel: [channels, channels]. */
function groupAverages({ graph, dtype, shape }: Value, perGroup: number, pixels: number): Value {
  const channels = Number(shape[3]);
  return graph.constantOnce(`group averages ${dtype} ${channels} ${perGroup} ${pixels}`, () => {
    const share = 1 / (perGroup * pixels);
    const groupOf = (channel: number) => Math.floor(channel / perGroup);
    const matrix = Float64Array.from({ length: channels ** 2 }, (_, i) =>
      groupOf(i % channels) === groupOf(Math.floor(i / channels)) ? share : 0,
    );
    return { dtype, shape: [channels, channels], data: toTensorData(dtype, matrix) };
  });
}
