import { InvalidArgumentError } from '../errors.ts';
import { encodeBfloat16, encodeFloat16 } from './float-formats.ts';
import type { NamedTensor } from './safetensors.ts';

/** transformers.js's names of the types that weights are saved in. */
export const WEIGHTS_DTYPES = ['fp32', 'fp16', 'bf16'] as const;
export type WeightsDtype = (typeof WEIGHTS_DTYPES)[number];

/**
 * float32 values as a tensor of `dtype`: as they are, or rounded to the nearest, ties to even.
 *
 * @throws {InvalidArgumentError} when a finite value is infinite in `dtype`, or `dtype` is unknown.
 */
export function float32Tensor(
  name: string,
  shape: readonly number[],
  values: Float32Array,
  dtype: WeightsDtype,
): NamedTensor {
  switch (dtype) {
    case 'fp32':
      return { dtype: 'F32', shape: [...shape], data: values };
    case 'fp16':
      refuseOverflow(name, values, FLOAT16_LIMIT);
      return { dtype: 'F16', shape: [...shape], data: encodeFloat16(values) };
    case 'bf16':
      refuseOverflow(name, values, BFLOAT16_LIMIT);
      return { dtype: 'BF16', shape: [...shape], data: encodeBfloat16(values) };
    default:
      throw new InvalidArgumentError(
        `dtype '${String(dtype)}' is unknown: weights are saved as ${WEIGHTS_DTYPES.join(', ')}`,
      );
  }
}

/** Halfway from the largest number to the next power of two: what is at least this large becomes infinite. */
const FLOAT16_LIMIT = 65_520;
const BFLOAT16_LIMIT = (2 - 2 ** -8) * 2 ** 127;

function refuseOverflow(name: string, values: Float32Array, limit: number): void {
  const found = values.find((value) => Math.abs(value) >= limit && Number.isFinite(value));
  if (found !== undefined)
    throw new InvalidArgumentError(
      `'${name}' has the value ${found}, which is infinite in this dtype: save it as 'fp32'`,
    );
}
