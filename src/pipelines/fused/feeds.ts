import { RuntimeExecutionError } from '../../errors.ts';
import { type DType, elementCount } from '../../graph/types.ts';
import { hostTensor, type RuntimeTensor } from '../../runtime/session.ts';
import type { Scheduler } from '../../schedulers/scheduler.ts';
import type { StepCoefficients } from '../../schedulers/steps.ts';
import type { Guidance } from '../guidance.ts';
import { outputScales } from '../noise-scale.ts';
import type { SamplingRun } from '../sample.ts';
import { type StepForm, scalarsOf, timeValueName } from './graphs.ts';

/** The coefficients of all steps; undefined where they do not describe every step. */
export function fixedCoefficients(scheduler: Scheduler, run: SamplingRun): FusedStep[] | undefined {
  // A subclass that changes a step, but not its coefficients, is not described by those of its base.
  const depth = (method: string) => {
    let levels = 0;
    for (let level: unknown = scheduler; level && !Object.hasOwn(level, method); levels++)
      level = Object.getPrototypeOf(level);
    return levels;
  };
  const own = depth('stepCoefficients');
  if (depth('step') < own || depth('scaleModelInput') < own) return undefined;
  const { timesteps } = scheduler;
  const coefficients = timesteps.map((timestep) => scheduler.stepCoefficients(timestep, run));
  const fixed = coefficients.filter((step) => step !== null);
  const oneClip = fixed.every(({ clip }) => clip === fixed[0]?.clip);
  if (!timesteps.every(Number.isInteger) || !oneClip || fixed.length < timesteps.length) return undefined;
  const scales = run.noiseScale && outputScales(run.noiseScale, scheduler);
  return fixed.map((step, i) => ({
    ...step,
    scaledFromOutput: scales?.[i]?.fromOutput ?? 1,
    scaledFromInput: scales?.[i]?.fromInput ?? 0,
  }));
}

/** The scalars of one step: the scheduler's, and those that scale the predicted noise. */
export type FusedStep = StepCoefficients & { readonly scaledFromOutput: number; readonly scaledFromInput: number };

/** @param guidance of the classes, if any. */
export function formOf(coefficients: readonly FusedStep[], guidance: Guidance | undefined): StepForm {
  return {
    clip: coefficients[0]?.clip ?? null,
    usesOutput: coefficients.some(({ fromOutput }) => fromOutput !== 0),
    usesNoise: coefficients.some(({ fromNoise }) => fromNoise !== 0),
    scalesOutput: coefficients.some(({ scaledFromOutput }) => scaledFromOutput !== 1),
    addsInput: coefficients.some(({ scaledFromInput }) => scaledFromInput !== 0),
    isGuided: guidance?.noClass !== undefined,
  };
}

/** What a run of some steps takes beside the sample, its noise and its classes. */
export function chunkFeeds(
  form: StepForm,
  coefficients: readonly FusedStep[],
  timeValues: readonly RuntimeTensor[],
  firstStep: number,
): Record<string, RuntimeTensor> {
  const steps = coefficients.length;
  const feeds: Record<string, RuntimeTensor> = { step_count: int64Scalar(steps) };
  for (const name of scalarsOf(form)) {
    const vector = Float32Array.from(coefficients, (step) => step[name]);
    feeds[name] = hostTensor('float32', [steps], vector);
  }
  timeValues.forEach((tensor, index) => {
    feeds[timeValueName(index)] = rowsOf(tensor, firstStep, steps);
  });
  return feeds;
}

/** Rows of a tensor on the host, without a copy. */
function rowsOf({ type, dims, data }: RuntimeTensor, first: number, count: number): RuntimeTensor {
  const shape = dims.slice(1);
  const size = elementCount(shape);
  const range = [first * size, (first + count) * size] as const;
  if (data instanceof BigInt64Array) return hostTensor('int64', [count, ...shape], data.subarray(...range));
  if (data instanceof Float32Array) return hostTensor('float32', [count, ...shape], data.subarray(...range));
  if (type === 'float16' && ArrayBuffer.isView(data)) {
    // A Uint16Array, or where JavaScript has it a Float16Array.
    const bits = new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2);
    return hostTensor('float16', [count, ...shape], bits.subarray(...range));
  }
  throw new RuntimeExecutionError(`a value of the timesteps is ${type}; int64, float32 and float16 are supported`);
}

export function int64Scalar(value: number): RuntimeTensor {
  return hostTensor('int64', [], BigInt64Array.of(BigInt(value)));
}

/** The inputs of the classes of `count` samples from `first` on. */
export function classFeeds(
  guidance: Guidance | undefined,
  dtype: DType,
  first: number,
  count: number,
): Record<string, RuntimeTensor> {
  if (!guidance) return {};
  const { labels, noClass, scale } = guidance;
  const classes = (values: readonly number[]) =>
    dtype === 'int32'
      ? hostTensor('int32', [count], Int32Array.from(values))
      : hostTensor('int64', [count], BigInt64Array.from(values, BigInt));
  const class_labels = classes(labels.slice(first, first + count));
  if (noClass === undefined) return { class_labels };
  const no_class = classes(Array<number>(count).fill(noClass));
  return { class_labels, no_class, guidance_scale: hostTensor('float32', [], Float32Array.of(scale)) };
}
