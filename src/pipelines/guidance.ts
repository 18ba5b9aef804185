import { InvalidArgumentError } from '../errors.ts';
import { elementCount } from '../graph/types.ts';
import { type Fields, numberOption, numberOrNumbersOption, numbersOption } from '../options.ts';
import * as z from '../zod.ts';
import type { ModelSession } from './model-session.ts';

/** Which classes are drawn, and how closely. */
export interface ClassOptions {
  /**
   * For class-conditional models, which need it: one class for all images, or a list with one for each, from 0. A model with
   * `class_embed_type` 'timestep' takes any numbers, one with 'identity' a vector, or a list of them. Default: none, for models
   * without classes.
   */
  readonly class_labels?: ClassLabels | undefined;
  /**
   * Weight of classifier-free guidance (Ho & Salimans 2022), a finite number: the prediction without class plus this
   * times the difference that the class makes. Default 1, without guidance. The model's last class stands for no class.
   */
  readonly guidance_scale?: number | undefined;
}

/** A number, or a vector, for all images, or a list with one for each. */
export type ClassLabels = number | readonly number[] | readonly (readonly number[])[];

const classLabelsOption = z.custom<ClassLabels>(
  (value) =>
    numberOrNumbersOption.safeParse(value).success ||
    (Array.isArray(value) && value.every((one) => numbersOption.safeParse(one).success)),
  'must be a number or a list of numbers, or vectors',
);

/** The types alone. */
export const classShape = {
  class_labels: z.optional(classLabelsOption),
  guidance_scale: z.optional(numberOption),
} satisfies Fields<ClassOptions>;

/** The class options of a call, which shares nothing with the caller's objects. */
export interface ClassCall {
  /** One for all images, or one for each; of vectors, one after another. */
  readonly class_labels: readonly number[] | undefined;
  readonly guidance_scale: number;
}

/**
 * Reads the class options of a call for `count` images.
 *
 * @param classCount of the model; undefined where it is not known, as of an ONNX file.
 * @throws {InvalidArgumentError} when the options do not fit the model, or not `count` images.
 */
export function readClassOptions(
  { class_labels, guidance_scale = 1 }: ClassOptions,
  model: Pick<ModelSession, 'isClassConditional' | 'labelShape'>,
  classCount: number | undefined,
  count: number,
): ClassCall {
  if (!Number.isFinite(guidance_scale))
    throw new InvalidArgumentError(`guidance_scale is ${guidance_scale}, but must be finite`);
  if (!model.isClassConditional) {
    if (class_labels !== undefined || guidance_scale !== 1)
      throw new InvalidArgumentError('class_labels and guidance_scale need a class-conditional model');
    return { class_labels: undefined, guidance_scale };
  }
  if (model.labelShape)
    return { class_labels: readFloatLabels(class_labels, guidance_scale, model.labelShape, count), guidance_scale };
  const classes = classCount === undefined ? 'classes' : `${classCount} classes`;
  if (class_labels === undefined) throw new InvalidArgumentError(`the model has ${classes}: give class_labels`);
  if (classCount === undefined && guidance_scale !== 1)
    throw new InvalidArgumentError(
      'guidance_scale needs to know which class stands for none, which an ONNX file does not say: open the folder of a pipeline whose model class is registered',
    );
  const labels = listOf(class_labels, count);
  const limit = classCount ?? Number.POSITIVE_INFINITY;
  const wrong = labels.find((label) => !Number.isSafeInteger(label) || label < 0 || label >= limit);
  if (wrong !== undefined)
    throw new InvalidArgumentError(
      `class label ${wrong}: the model has ${classes}, numbered from 0${classCount === undefined ? '' : ` to ${classCount - 1}`}`,
    );
  return { class_labels: labels, guidance_scale };
}

/** The numbers of a copy. @throws {InvalidArgumentError} when they are vectors, or not one for each image. */
function listOf(class_labels: ClassLabels, count: number): number[] {
  const list = typeof class_labels === 'number' ? [class_labels] : [...class_labels];
  const labels = list.filter((label) => typeof label === 'number');
  if (labels.length < list.length)
    throw new InvalidArgumentError('class_labels has vectors, but the model takes a number for each image');
  if (typeof class_labels !== 'number' && labels.length !== count)
    throw new InvalidArgumentError(
      `class_labels is a list of ${labels.length}, but ${count} images were asked for: give one class, or one for each`,
    );
  return labels;
}

/** Labels that are not numbered classes. @throws {InvalidArgumentError} when they are wrong, or guidance is asked for. */
function readFloatLabels(
  class_labels: ClassLabels | undefined,
  guidance_scale: number,
  [length]: readonly number[],
  count: number,
): number[] {
  const kind = length === undefined ? 'a number' : `a vector of ${length} numbers`;
  if (guidance_scale !== 1)
    throw new InvalidArgumentError(
      `guidance_scale is ${guidance_scale}, but the model takes ${kind} as a class label, of which none stands for no class`,
    );
  if (class_labels === undefined)
    throw new InvalidArgumentError(`the model takes ${kind} as a class label: give class_labels`);
  const labels = length === undefined ? listOf(class_labels, count) : vectorsOf(class_labels, length, count);
  const wrong = labels.find((label) => !Number.isFinite(label));
  if (wrong !== undefined) throw new InvalidArgumentError(`class_labels has ${wrong}, but must be finite`);
  return labels;
}

function vectorsOf(class_labels: ClassLabels, length: number, count: number): number[] {
  const list: readonly (number | readonly number[])[] = typeof class_labels === 'number' ? [] : class_labels;
  const vectors = list.filter((vector) => typeof vector !== 'number');
  const isOne = list.length > 0 && vectors.length === 0;
  const rows = isOne ? [list.filter((value) => typeof value === 'number')] : vectors;
  if (rows.every((row) => row.length === length) && (isOne || rows.length === count)) return rows.flat();
  throw new InvalidArgumentError(
    `class_labels must be a vector of ${length} numbers for all images, or a list with one for each of the ${count}`,
  );
}

/** The classes of some images, and how strongly they guide the prediction. */
export interface Guidance {
  /** One for each image; of vectors, one after another. */
  readonly labels: readonly number[];
  /** The class that stands for none, where the prediction without a class counts too. */
  readonly noClass: number | undefined;
  readonly scale: number;
}

/**
 * The guidance of `count` images of a call, whose options have been checked; undefined for a model without classes.
 *
 * @param first number of the first image, by which labels are found.
 */
export function guidanceOf(
  { isClassConditional, labelShape = [] }: Pick<ModelSession, 'isClassConditional' | 'labelShape'>,
  classCount: number | undefined,
  { class_labels = [], guidance_scale }: ClassCall,
  first: number,
  count: number,
): Guidance | undefined {
  if (!isClassConditional) return undefined;
  const size = elementCount(labelShape);
  const labels = Array.from({ length: count }, (_, i) => {
    const row = class_labels.length === size ? 0 : first + i;
    return class_labels.slice(row * size, (row + 1) * size);
  }).flat();
  const isPlain = guidance_scale === 1 || classCount === undefined;
  return { labels, noClass: isPlain ? undefined : classCount - 1, scale: guidance_scale };
}

/**
 * The model's prediction for images of their classes, with guidance; undefined for a model without classes and condition.
 *
 * @param condition what the model is given beside the samples, where it takes that.
 */
export function guidedPrediction(
  model: ModelSession,
  guidance: Guidance | undefined,
  condition?: Float32Array | undefined,
): ((sample: Float32Array, timestep: number) => Promise<Float32Array>) | undefined {
  if (!guidance) return condition && ((sample, timestep) => model.predict(sample, timestep, undefined, condition));
  const { labels, noClass, scale } = guidance;
  const size = elementCount(model.sampleShape);
  return async (sample, timestep) => {
    const conditional = await model.predict(sample, timestep, labels, condition);
    if (noClass === undefined) return conditional;
    const none = labels.map(() => noClass);
    const unconditional = await model.predict(sample, timestep, none, condition);
    return guided(conditional, unconditional, scale, size, labels.length);
  };
}

/** A learned variance, the second half of the channels, is the class's own, as in diffusers' DiTPipeline. */
function guided(
  conditional: Float32Array,
  unconditional: Float32Array,
  scale: number,
  sampleSize: number,
  count: number,
): Float32Array {
  const outputSize = conditional.length / count;
  return unconditional.map((u, i) => {
    const c = conditional[i] as number;
    return i % outputSize < sampleSize ? u + scale * (c - u) : c;
  });
}
