import type { Value } from '../graph.ts';
import { scalarLike } from '../registry.ts';
import { elementCount, fixedShape } from '../types.ts';
import { add, floor, less, mul, sub, where } from './elementwise.ts';
import { slice } from './indexing.ts';
import { matmul } from './matmul.ts';
import { reshape } from './shape.ts';

/**
 * The masks are made of integers modulo this prime: small enough that a product of `RANK` numbers is exact in float32.
 */
const MODULUS = 2039;
const RANK = 4;
/** The integers that a mask is made of are uniform in [-MAX_DROPOUT_NUMBER, MAX_DROPOUT_NUMBER]. */
export const MAX_DROPOUT_NUMBER = (MODULUS - 1) / 2;

/**
 * Gives a dropout its random integers, as float32 [samples, length], uniform in [-MAX_DROPOUT_NUMBER,
 * MAX_DROPOUT_NUMBER]. It is called once for each dropout of a graph.
 */
export type DropoutNumbers = (samples: number, length: number) => Value;

/**
 * Sets each element to 0 with the given probability, in [0, 1), and scales the others so that the expected value stays
 * (Srivastava et al. 2014, as torch's nn.Dropout in training).
 *
 * @param x of a fixed shape, float32 or float64; the first axis is that of the samples.
 * @param numbers where the random integers come from.
 */
export function dropout(x: Value, probability: number, numbers: DropoutNumbers): Value {
  if (probability === 0) return x;
  return mul(x, dropoutMask(x, fixedShape(x.shape), probability, numbers));
}

/**
 * What a dropout multiplies with: 0, or the scale of what is kept. The mask of a sample is made of the sample's own
 * integers, whatever stands beside it in the batch.
 *
 * A mask of n elements is made of about 8 sqrt(n) random integers, because a random number for each element would have to
 * be fed, and the random ops of ONNX do not run on a GPU: a product of two matrices over the integers modulo 2039, of
 * inner length 4. Any four columns of it are independent, and so are any four rows. All of it is exact in float32, so
 * every device makes the same mask. The probability is rounded to a multiple of 1/2039, and the scale with it.
 *
 * @param x gives the mask its element type.
 * @param shape of the mask, with the samples first.
 */
export function dropoutMask(x: Value, shape: readonly number[], probability: number, numbers: DropoutNumbers): Value {
  const kept = Math.max(1, Math.round((1 - probability) * MODULUS));
  const [samples = 1, ...sampleShape] = shape;
  const [rows, columns] = nearlySquare(elementCount(sampleShape));
  const drawn = numbers(samples, RANK * (rows + columns));
  const left = reshape(slice(drawn, 0, RANK * rows, 1), [samples, rows, RANK]);
  const right = reshape(slice(drawn, RANK * rows, RANK * (rows + columns), 1), [samples, RANK, columns]);
  // Half is added because rounding could carry a multiple of the modulus to the other side.
  const quotient = mul(add(matmul(left, right), scalarLike(drawn, 0.5)), scalarLike(drawn, 1 / MODULUS));
  const remainder = sub(quotient, floor(quotient));
  const keeps = less(remainder, scalarLike(drawn, kept / MODULUS));
  // A mask of floats: on webgpu, which turns images to channels last, one of booleans would be turned on the cpu.
  const mask = where(keeps, scalarLike(x, MODULUS / kept), scalarLike(x, 0));
  return reshape(mask, shape);
}

/** Two factors of `count`, as near to each other as can be. */
function nearlySquare(count: number): [number, number] {
  let factor = Math.floor(Math.sqrt(count));
  while (count % factor !== 0) factor -= 1;
  return [factor, count / factor];
}
