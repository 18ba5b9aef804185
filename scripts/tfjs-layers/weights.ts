import * as z from 'zod';
import { FileFormatError } from '../../src/errors.ts';

const quantization = z.object({
  dtype: z.enum(['uint8', 'uint16']),
  min: z.number(),
  scale: z.number(),
});
const weightSpec = z.object({
  name: z.string(),
  shape: z.array(z.int().min(0).max(1_000_000)).max(8),
  dtype: z.literal('float32'),
  quantization: quantization.optional(),
});
export const weightsManifest = z.array(z.object({ weights: z.array(weightSpec).max(10_000) })).max(1000);
export type WeightsManifest = z.infer<typeof weightsManifest>;

/** A tensor of a tfjs model. */
export interface LayerWeight {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/**
 * The tensors that a tfjs manifest describes, in float32. Quantised values q are min + scale q
 * (tfjs-core, io/io_utils.ts).
 *
 * @param bytes of all groups, one after another.
 * @throws {FileFormatError} when there are more or fewer bytes than the manifest describes.
 */
export function decodeWeights(manifest: WeightsManifest, bytes: Uint8Array): Map<string, LayerWeight> {
  const tensors = new Map<string, LayerWeight>();
  let offset = 0;
  for (const { name, shape, quantization } of manifest.flatMap(({ weights }) => weights)) {
    const count = shape.reduce((product, length) => product * length, 1);
    const width = quantization ? { uint8: 1, uint16: 2 }[quantization.dtype] : 4;
    const end = offset + count * width;
    if (!Number.isSafeInteger(count) || end > bytes.length)
      throw new FileFormatError(`the weights end at byte ${bytes.length}, but '${name}' would need them to ${end}`);
    // Copied, since the offset need not be a multiple of the width.
    const { buffer } = bytes.slice(offset, end);
    const stored = quantization?.dtype === 'uint8' ? new Uint8Array(buffer) : new Uint16Array(0);
    const values =
      width === 4
        ? new Float32Array(buffer)
        : Float32Array.from(
            width === 2 ? new Uint16Array(buffer) : stored,
            (q) => q * (quantization?.scale ?? 1) + (quantization?.min ?? 0),
          );
    tensors.set(name, { shape, data: values });
    offset = end;
  }
  if (offset === bytes.length) return tensors;
  throw new FileFormatError(`the manifest describes ${offset} bytes of weights, but there are ${bytes.length}`);
}
