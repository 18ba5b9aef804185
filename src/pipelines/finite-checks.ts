// NaN and infinity never leave a pipeline: each step is checked, and the error says which and why.
import { InvalidArgumentError, NonFiniteSampleError } from '../errors.ts';

/** Where a reverse process is. */
export interface StepPlace {
  /** From 0. */
  readonly index: number;
  readonly count: number;
  readonly timestep: number;
}

/** About 1 ns a value, against microseconds a value for the model. */
export function allFinite(values: Float32Array): boolean {
  let sum = 0;
  // NaN for NaN and infinity, else 0.
  for (let i = 0; i < values.length; i++) sum += (values[i] as number) * 0;
  return sum === 0;
}

/** Beyond it a sample is no mixture of data of about unit size and noise any more. */
const USUAL_LIMIT = 1e3;

/** @throws {NonFiniteSampleError} unless the model's `output` for `input` is finite. */
export function checkModelOutput(output: Float32Array, input: Float32Array, place: StepPlace): void {
  if (allFinite(output)) return;
  const largest = input.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const cause =
    largest > USUAL_LIMIT
      ? `the sample had grown to ${largest.toPrecision(3)}, so the scheduler does not fit the model (prediction_type, betas, clip_sample), or guidance_scale is too large`
      : 'its weights are not finite, for instance of a training run that diverged, or its arithmetic overflows, for instance in float16';
  throw new NonFiniteSampleError(
    `the model gave ${firstWrong(output)} ${at(place)}. Likely cause: ${cause}`,
    place.index + 1,
  );
}

/**
 * What a scheduler's method returned, once it is known to be usable.
 *
 * @param what of which scheduler: 'EulerScheduler.step'.
 * @throws {InvalidArgumentError} unless it is a Float32Array of `length` values.
 * @throws {NonFiniteSampleError} unless they are finite.
 */
export function checkedSample(given: unknown, length: number, what: string, place: StepPlace): Float32Array {
  if (!(given instanceof Float32Array && given.length === length))
    throw new InvalidArgumentError(`${what} must give a Float32Array of ${length} values`);
  if (allFinite(given)) return given;
  throw new NonFiniteSampleError(
    `${what} gave ${firstWrong(given)} ${at(place)}, from a finite sample and a finite output of the model. Likely cause: the scheduler's config does not fit the model (prediction_type, betas, variance_type), or its arithmetic divides by 0 there`,
    place.index + 1,
  );
}

function firstWrong(values: Float32Array): string {
  const value = values.find((x) => !Number.isFinite(x));
  return Number.isNaN(value) ? 'NaN' : String(value);
}

function at({ index, count, timestep }: StepPlace): string {
  return `in step ${index + 1} of ${count} (timestep ${timestep})`;
}
