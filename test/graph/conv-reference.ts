import type { ConvGeometry } from '../../src/graph/ops/index.ts';

/** A convolution by its definition, in float64: the independent reference of the ops. Shapes as torch's. */
export function plainConv(
  x: ArrayLike<number>,
  [batch = 0, channels = 0, height = 0, width = 0]: readonly number[],
  weight: ArrayLike<number>,
  [filters = 0, perGroup = 0, kernelHeight = 0, kernelWidth = 0]: readonly number[],
  { strides, pads, dilations, group }: ConvGeometry,
): { data: Float64Array; shape: number[] } {
  const length = (size: number, kernel: number, axis: 0 | 1) =>
    Math.floor(
      (size + (pads[axis] ?? 0) + (pads[axis + 2] ?? 0) - dilations[axis] * (kernel - 1) - 1) / strides[axis],
    ) + 1;
  const shape = [batch, filters, length(height, kernelHeight, 0), length(width, kernelWidth, 1)];
  const [, , outHeight = 0, outWidth = 0] = shape;
  const data = new Float64Array(batch * filters * outHeight * outWidth);
  // One kind of array, whatever the callers have: the loops run several times as fast.
  const pixels = Float64Array.from(x);
  const taps = Float64Array.from(weight);
  let at = 0;
  for (let n = 0; n < batch; n++)
    for (let f = 0; f < filters; f++)
      for (let i = 0; i < outHeight; i++)
        for (let j = 0; j < outWidth; j++, at++) {
          const firstChannel = Math.floor(f / (filters / group)) * perGroup;
          let sum = 0;
          for (let c = 0; c < perGroup; c++)
            for (let a = 0; a < kernelHeight; a++)
              for (let b = 0; b < kernelWidth; b++) {
                const row = i * strides[0] + a * dilations[0] - pads[0];
                const column = j * strides[1] + b * dilations[1] - pads[1];
                if (row < 0 || row >= height || column < 0 || column >= width) continue;
                const pixel = ((n * channels + firstChannel + c) * height + row) * width + column;
                const tap = ((f * perGroup + c) * kernelHeight + a) * kernelWidth + b;
                sum += (pixels[pixel] as number) * (taps[tap] as number);
              }
          data[at] = sum;
        }
  return { data, shape };
}
