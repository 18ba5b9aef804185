import type { Value } from '../graph/graph.ts';
import type { Conv2dOptions } from '../graph/ops/conv/conv.ts';

/**
 * The layers of a convolutional network in one memory order of its feature maps. A network written against this
 * interface gives the same results in every order; the order decides how fast they are.
 */
export interface FeatureMaps {
  /** From images [batch, channels, height, width]. */
  fromImages(images: Value): Value;
  /** Back to images [batch, channels, height, width]. */
  toImages(maps: Value): Value;
  channels(maps: Value): number;
  /** The axes of filters [out, in, kernel height, kernel width] in the order in which `conv2d` takes them. */
  readonly filterAxes: readonly number[];
  /** A convolution without groups or dilations; bias [out]. */
  conv2d(maps: Value, filters: Value, bias: Value, options: Pick<Conv2dOptions, 'strides' | 'pads'>): Value;
  /** Group normalisation as in torch; weight and bias [channels]. */
  groupNorm(maps: Value, groups: number, weight: Value, bias: Value, epsilon: number): Value;
  /** [batch or 1, channels] in a shape that broadcasts over the pixels. */
  perChannel(values: Value): Value;
  concatChannels(maps: readonly Value[]): Value;
  /** Every pixel twice in both directions. */
  upsampleNearest2x(maps: Value): Value;
  /**
   * Self-attention over the pixels, softmax(q k^T / sqrt(d)) v in heads of `headDim` channels. Each projection is
   * a dense layer with weight [channels, channels] and bias [channels].
   */
  attention(maps: Value, projections: AttentionProjections, headDim: number): Value;
}

export interface Projection {
  readonly weight: Value;
  readonly bias: Value;
}

export interface AttentionProjections {
  readonly query: Projection;
  readonly key: Projection;
  readonly value: Projection;
  readonly output: Projection;
}
