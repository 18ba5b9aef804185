import type { Value } from '../../graph.ts';
import { fixedShape } from '../../types.ts';
import { pad } from '../indexing.ts';

/** What decides which kernel a convolution gets. */
export interface ConvKernelFacts {
  /** [out, in / group, ...kernel]. */
  readonly weight: readonly number[];
  readonly strides: readonly number[];
  readonly pads: readonly number[];
  readonly group: number;
}

/**
 * Whether the webgpu of onnxruntime 1.30 computes this convolution wrongly, as SwiftShader shows and its source
 * (conv2d_mm.cc) says of every GPU; probably https://github.com/microsoft/onnxruntime/issues/29651. It reads three channels
 * at a time where their number is a multiple of 3 and not of 4, and divides their index by 4: right for 3 channels only.
 * Where the outputs are no multiple of 4, it reads one at a time. Groups, plain products of pixels, three axes and
 * ConvTranspose have kernels of their own, which are right.
 */
export function isMiscomputedOnWebgpu({ weight, strides, pads, group }: ConvKernelFacts): boolean {
  const [outputs = 0, channels = 0, ...kernel] = weight;
  const isProduct = [...kernel, ...strides].every((one) => one === 1) && pads.every((count) => count === 0);
  if (group > 1 || isProduct || kernel.length > 2) return false;
  return outputs % 4 === 0 && channels > 3 && channels % 3 === 0 && channels % 4 !== 0;
}

/** Images [batch, in, ...] and filters [out, in, ...] with channels of zeros, so that `in` is a multiple of 4. */
export function withChannelsInFours(x: Value, weight: Value): [Value, Value] {
  const [, channels = 0, ...kernel] = fixedShape(weight.shape);
  const none = [0, 0, ...kernel.map(() => 0)];
  const pads = [...none, ...none.with(1, (4 - (channels % 4)) % 4)];
  return [pad(x, pads), pad(weight, pads)];
}
