import { InvalidArgumentError } from '../errors.ts';
import { elementCount } from '../graph/types.ts';
import { type Fields, numberOption, numberOrNumbersOption } from '../options.ts';
import * as z from '../zod.ts';
import type { ModelSession } from './model-session.ts';

export interface ClassOptions {
  /**
   * For class-conditional models, which need it: one class for all images, or a list with one for each, from 0. Default:
   * none, for models without classes.
   */
  readonly class_labels?: number | readonly number[] | undefined;
  /**
   * Weight of classifier-free guidance (Ho & Salimans 2022), a finite number: the prediction without class plus this
   * times the difference that the class makes. Default 1, without guidance. The model's last class stands for no class.
   */
  readonly guidance_scale?: number | undefined;
}

/** The types alone. */
export const classShape = {
  class_labels: z.optional(numberOrNumbersOption),
  guidance_scale: z.optional(numberOption),
} satisfies Fields<ClassOptions>;

/** The class options of a call, which shares nothing with the caller's objects. */
export interface ClassCall {
  readonly class_labels: number | readonly number[] | undefined;
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
  model: Pick<ModelSession, 'isClassConditional'>,
  classCount: number | undefined,
  count: number,
): ClassCall {
  if (!Number.isFinite(guidance_scale))
    throw new InvalidArgumentError(`guidance_scale is ${guidance_scale}, but must be finite`);
  if (!model.isClassConditional) {
    if (class_labels !== undefined || guidance_scale !== 1)
      throw new InvalidArgumentError('class_labels and guidance_scale need a class-conditional model');
    return { class_labels, guidance_scale };
  }
  const classes = classCount === undefined ? 'classes' : `${classCount} classes`;
  if (class_labels === undefined) throw new InvalidArgumentError(`the model has ${classes}: give class_labels`);
  if (classCount === undefined && guidance_scale !== 1)
    throw new InvalidArgumentError(
      'guidance_scale needs to know which class stands for none, which an ONNX file does not say: open the folder of a pipeline whose model class is registered',
    );
  const labels = typeof class_labels === 'number' ? [class_labels] : class_labels;
  if (typeof class_labels !== 'number' && labels.length !== count)
    throw new InvalidArgumentError(
      `class_labels is a list of ${labels.length}, but ${count} images were asked for: give one class, or one for each`,
    );
  const limit = classCount ?? Number.POSITIVE_INFINITY;
  const wrong = labels.find((label) => !Number.isSafeInteger(label) || label < 0 || label >= limit);
  if (wrong !== undefined)
    throw new InvalidArgumentError(
      `class label ${wrong}: the model has ${classes}, numbered from 0${classCount === undefined ? '' : ` to ${classCount - 1}`}`,
    );
  return { class_labels: typeof class_labels === 'number' ? class_labels : labels.slice(), guidance_scale };
}

/** The classes of some images, and how strongly they guide the prediction. */
export interface Guidance {
  /** One for each image. */
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
  { isClassConditional }: Pick<ModelSession, 'isClassConditional'>,
  classCount: number | undefined,
  { class_labels = 0, guidance_scale }: ClassCall,
  first: number,
  count: number,
): Guidance | undefined {
  if (!isClassConditional) return undefined;
  const labels = Array.from({ length: count }, (_, i) =>
    typeof class_labels === 'number' ? class_labels : (class_labels[first + i] ?? 0),
  );
  const isPlain = guidance_scale === 1 || classCount === undefined;
  return { labels, noClass: isPlain ? undefined : classCount - 1, scale: guidance_scale };
}

/** The model's prediction for images of their classes, with guidance; undefined for a model without classes. */
export function guidedPrediction(
  model: ModelSession,
  guidance: Guidance | undefined,
): ((sample: Float32Array, timestep: number) => Promise<Float32Array>) | undefined {
  if (!guidance) return undefined;
  const { labels, noClass, scale } = guidance;
  const size = elementCount(model.sampleShape);
  return async (sample, timestep) => {
    const conditional = await model.predict(sample, timestep, labels);
    if (noClass === undefined) return conditional;
    const none = labels.map(() => noClass);
    const unconditional = await model.predict(sample, timestep, none);
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
