import type { Value } from '../graph/graph.ts';
import { conv2d } from '../graph/ops/conv/conv.ts';
import { add, mul } from '../graph/ops/elementwise.ts';
import { groupNorm } from '../graph/ops/group-norm.ts';
import { matmul } from '../graph/ops/matmul.ts';
import { softmax } from '../graph/ops/normalization.ts';
import { upsampleNearest2x } from '../graph/ops/resample.ts';
import { concat, reshape, transpose, unsqueeze } from '../graph/ops/reshape.ts';
import { scalarLike } from '../graph/registry.ts';
import { fixedShape } from '../graph/types.ts';
import type { FeatureMaps, Projection } from './layout.ts';

/** [batch, channels, height, width], the order of torch and ONNX: what is exported, and what GPUs run. */
export const channelsFirst: FeatureMaps = {
  fromImages: (images) => images,
  toImages: (maps) => maps,
  channels: (maps) => fixedShape(maps.shape.slice(1))[0] ?? 1,
  filterAxes: [0, 1, 2, 3],
  conv2d,
  groupNorm,
  perChannel: (values) => unsqueeze(values, [2, 3]),
  concatChannels: (maps) => concat(maps, 1),
  upsampleNearest2x,
  attention: (maps, { query, key, value, output }, headDim) => {
    const [channels = 1, height = 1, width = 1] = fixedShape(maps.shape.slice(1));
    const pixels = reshape(maps, [0, channels, height * width]);
    const toHeads = (projection: Projection) =>
      reshape(project(projection, pixels), [0, channels / headDim, headDim, height * width]);
    const scaled = mul(toHeads(query), scalarLike(maps, headDim ** -0.5));
    const weights = softmax(matmul(transpose(scaled, [0, 1, 3, 2]), toHeads(key)));
    const mixed = matmul(toHeads(value), transpose(weights, [0, 1, 3, 2]));
    const joined = project(output, reshape(mixed, [0, channels, height * width]));
    return reshape(joined, [0, channels, height, width]);
  },
};

/** A dense layer on channels-first pixels [batch, channels, pixels], which spares the transposes of torch's layout. */
function project({ weight, bias }: Projection, pixels: Value): Value {
  return add(matmul(weight, pixels), reshape(bias, [-1, 1]));
}
