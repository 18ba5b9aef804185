import type { Value } from '../graph/graph.ts';
import { add, div, mul, sqrt, square, sub } from '../graph/ops/elementwise.ts';
import { gemm } from '../graph/ops/matmul.ts';
import { reduceMean } from '../graph/ops/reduce.ts';
import { reshape } from '../graph/ops/shape.ts';
import { scalarLike } from '../graph/registry.ts';
import { fixedShape } from '../graph/types.ts';
import { fitsShiftedProduct, gatheredConvolution, type MapGeometry, shiftedProduct } from './column-convolution.ts';
import { attentionOfRows, hwnc } from './hwnc.ts';
import type { Layout, Projection } from './layout.ts';
import type { WeightForm } from './weight-forms.ts';
import { hasTiles, tiledConvolution } from './winograd.ts';

/**
 * The layout `hwnc` for drawing on the cpu, where weights do not change: what a step would make of them is made once. The
 * way of a convolution depends on the size of its images, never on their number, so that an image is the same in every batch.
 *
 * @param prepared gives a parameter in a form.
 */
export function drawingLayout(prepared: (weight: Value, form: WeightForm) => Value): Layout {
  const columns = (weight: Value) => prepared(weight, 'columns');
  return {
    ...hwnc,
    conv2d: (maps, filters, bias, { strides = [1, 1], pads = [0, 0, 0, 0] }) => {
      const geometry = { strides, pads };
      if (gainsByTiles(maps, filters, geometry)) return tiledConvolution(maps, prepared(filters, 'tiles'), bias);
      if (fitsShiftedProduct(filters, geometry))
        return add(shiftedProduct(maps, prepared(filters, 'shifted'), filters, geometry), bias);
      return gatheredConvolution(maps, columns(filters), filters, bias, geometry);
    },
    groupNorm,
    attention: (maps, projections, headDim) =>
      attentionOfRows(maps, projections, headDim, ({ weight, bias }: Projection, x) => gemm(x, columns(weight), bias)),
  };
}

/** With fewer pixels, the 36 products of an image are so flat that reading their filters takes longer than columns do. */
const MIN_PIXELS = 256;

function gainsByTiles(maps: Value, filters: Value, geometry: MapGeometry): boolean {
  const [height = 1, width = 1] = fixedShape(maps.shape);
  return height * width >= MIN_PIXELS && hasTiles(maps, filters, geometry);
}

/** Group normalisation in as few nodes as there are: small models and single images wait for the nodes. */
function groupNorm(maps: Value, groups: number, weight: Value, bias: Value, epsilon: number): Value {
  const [, , batch = 1, channels = 1] = fixedShape(maps.shape);
  const perGroup = channels / groups;
  const meanOf = (value: Value) =>
    reduceMean(reshape(reduceMean(value, [0, 1]), [batch, groups, perGroup]), [2], { keepdims: true });
  const grouped = (value: Value) => reshape(value, [groups, perGroup]);
  const mean = meanOf(maps);
  const variance = sub(meanOf(square(maps)), square(mean));
  const scale = div(grouped(weight), sqrt(add(variance, scalarLike(maps, epsilon))));
  const shift = sub(grouped(bias), mul(mean, scale));
  const toPixels = (value: Value) => reshape(value, [batch, channels]);
  return add(mul(maps, toPixels(scale)), toPixels(shift));
}
