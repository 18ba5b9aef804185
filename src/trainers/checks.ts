import { requireArray, requireFunction, requireObject, requireText } from '../arguments.ts';
import type { ImageSet } from '../datasets/images/image-set.ts';
import type { PointSet } from '../datasets/points/points.ts';
import { GraphError, InvalidArgumentError } from '../errors.ts';
import { formatShape, sameShape } from '../graph/types.ts';
import type { DiffusionLoss, LossResult } from '../losses/index.ts';
import { conditionShape, type DiffusionModel, learnsVariance } from '../models/model.ts';
import type { Device } from '../runtime/device.ts';
import { asTfjs, type TfjsModule } from '../runtime/tfjs/tf-module.ts';
import type { Scheduler } from '../schedulers/scheduler.ts';
import { isImageSet, type Samples } from './data/samples.ts';
import type { RunLogger } from './logging/run-logger.ts';
import { SCALER_REPORT } from './step/loss-scaler.ts';
import { refuseWrongIntervals, type TrainerCallback } from './trainer-callback.ts';

// What a trainer refuses before it begins: parts that do not fit together.

/** @throws {InvalidArgumentError} when a part is missing or of a wrong type. */
export function refuseWrongTypes(
  options: RunParts & {
    readonly model: DiffusionModel;
    readonly loss: DiffusionLoss;
    readonly noise_scheduler: Scheduler;
  },
): void {
  refuseWrongRun(options);
  const { model, loss, noise_scheduler } = options;
  requireObject('model', model);
  // One that leaves its size open has no shape yet.
  if (!model.withSampleSize) requireArray('model.sampleShape', model.sampleShape);
  requireFunction('model.forward', model.forward);
  requireFunction('loss', loss);
  requireObject('loss.config', loss.config);
  requireObject('noise_scheduler', noise_scheduler);
  requireFunction('noise_scheduler.toConfig', noise_scheduler.toConfig);
}

/** What all trainers take. */
interface RunParts {
  readonly train_dataset: object;
  readonly callbacks?: readonly TrainerCallback[] | undefined;
  readonly loggers?: readonly RunLogger[] | undefined;
}

/** @throws {InvalidArgumentError} when one of the parts that all trainers take is missing or of a wrong type. */
export function refuseWrongRun(options: RunParts): void {
  requireObject('the argument of a trainer', options);
  const { train_dataset, callbacks = [], loggers = [] } = options;
  requireObject('train_dataset', train_dataset);
  requireText(
    'the name of train_dataset, which loadPoints and loadImages give it,',
    Reflect.get(train_dataset, 'name'),
  );
  if (!Array.isArray(callbacks)) throw new InvalidArgumentError('callbacks must be a list of callbacks');
  for (const callback of callbacks) requireObject('a callback', callback);
  refuseWrongIntervals(callbacks);
  if (!Array.isArray(loggers)) throw new InvalidArgumentError('loggers must be a list of loggers');
  for (const logger of loggers) {
    requireObject('a logger', logger);
    requireFunction('the log of a logger', logger.log);
  }
}

/** @throws {InvalidArgumentError} when engine, tf, device and precision do not go together. */
export function refuseWrongEngine(
  { engine = 'onnxruntime', tf }: { readonly engine?: string | undefined; readonly tf?: TfjsModule | undefined },
  {
    device,
    tf32,
    mixed_precision,
  }: { readonly device: Device; readonly tf32?: boolean | undefined; readonly mixed_precision: string },
): void {
  if (engine !== 'onnxruntime' && engine !== 'tfjs')
    throw new InvalidArgumentError(`engine '${engine}' is unknown: use 'onnxruntime' or 'tfjs'`);
  if (engine === 'onnxruntime' && tf)
    throw new InvalidArgumentError("tf is given, but is for engine 'tfjs' only: set engine: 'tfjs'");
  if (engine === 'onnxruntime') return;
  asTfjs(tf);
  if (device !== 'auto')
    throw new InvalidArgumentError(
      `device is '${device}', but engine 'tfjs' runs on the backend that tf has: leave device out, and choose with tf.setBackend()`,
    );
  if (tf32 !== undefined)
    throw new InvalidArgumentError(
      `tf32 is ${tf32}, but engine 'tfjs' runs on the libraries that tf has loaded: leave tf32 out, and set NVIDIA_TF32_OVERRIDE=0 in the environment of the process for full float32`,
    );
  if (mixed_precision !== 'no')
    throw new InvalidArgumentError(
      `mixed_precision is '${mixed_precision}', but engine 'tfjs' has no float16: leave it out, or use engine 'onnxruntime'`,
    );
}

/**
 * @param dropout probability that a sample is shown without its class, for which the model's last class stands.
 * @throws {InvalidArgumentError} when a class-conditional model has no class for a label, or there are no labels.
 */
export function refuseWrongLabels(model: DiffusionModel, { name, labels }: Samples, dropout: number): void {
  const { classCount, classLabelShape } = model;
  if (classCount === undefined && dropout !== 0)
    throw new InvalidArgumentError(`class_dropout_prob is ${dropout}, but the model has no num_class_embeds`);
  if (classLabelShape && classLabelShape.length > 0)
    throw new InvalidArgumentError(
      `the model takes vectors of ${classLabelShape[0]} numbers as class labels, which no data set has: train it with another class_embed_type than 'identity'`,
    );
  if (classLabelShape && !labels)
    throw new InvalidArgumentError(
      `the model takes a number as a class label, but the data set '${name}' has no labels: leave out class_embed_type, or label every sample`,
    );
  if (classCount === undefined) return;
  if (!labels)
    throw new InvalidArgumentError(
      `the model has ${classCount} classes, but the data set '${name}' has no labels: leave out num_class_embeds, or label every sample`,
    );
  const usable = dropout > 0 ? classCount - 1 : classCount;
  const wrong = labels.find((label) => label < 0 || label >= usable);
  if (wrong !== undefined)
    throw new InvalidArgumentError(
      `the data set '${name}' has the label ${wrong}, but the model has classes for 0 to ${usable - 1}: set num_class_embeds to the number of classes, and one more with class_dropout_prob`,
    );
}

/** @throws {InvalidArgumentError} when the config of what is trained is no longer what the trainer was made with. */
export function refuseChangedConfig(
  { name, config }: { readonly name: string; readonly config: unknown },
  before: Readonly<Record<string, unknown>>,
): void {
  const [was, is] = [JSON.stringify(before[name]), JSON.stringify(config)];
  if (was === is) return;
  throw new InvalidArgumentError(
    `${name}.config was changed after the trainer was made, from ${was} to ${is}: make another ${name} and trainer`,
  );
}

/** @throws {InvalidArgumentError} when the model takes samples of another shape. */
export function refuseMismatch(model: DiffusionModel, source: Samples): void {
  if (sameShape(model.sampleShape, source.sampleShape)) return;
  const advice =
    source.sampleShape.length === 1
      ? `make the model with in_features: ${source.sampleShape[0]}`
      : `make the model with in_channels: ${source.sampleShape[0]} and sample_size: [${source.sampleShape.slice(1).join(', ')}], or load the images in its size`;
  throw new InvalidArgumentError(
    `the data set '${source.name}' has samples of shape ${formatShape(source.sampleShape)}, but the model takes ${formatShape(model.sampleShape)}: ${advice}`,
  );
}

/** @throws {InvalidArgumentError} when what the model is given beside its samples is missing, or is not as it takes it. */
export function refuseWrongCondition(
  model: DiffusionModel,
  data: PointSet | ImageSet,
  condition: ImageSet | undefined,
): void {
  const shape = conditionShape(model);
  if (!shape && !condition) return;
  if (!shape)
    throw new InvalidArgumentError(
      'condition_dataset is given, but the model takes nothing beside the sample: make it with more in_channels than out_channels',
    );
  if (!condition)
    throw new InvalidArgumentError(
      `the model takes an image of ${shape[0]} channels beside the sample: give condition_dataset, one image for each of train_dataset`,
    );
  if (condition.count !== data.count)
    throw new InvalidArgumentError(
      `condition_dataset '${condition.name}' has ${condition.count} images, but train_dataset '${data.name}' ${data.count}: give one for each, in the same order`,
    );
  const given = [condition.channels, condition.height, condition.width];
  if (!sameShape(given, shape))
    throw new InvalidArgumentError(
      `condition_dataset '${condition.name}' has images of ${formatShape(given)}, but the model takes ${formatShape(shape)} beside the sample: load them in that size, or change in_channels`,
    );
  if (isImageSet(data) && (data.uncropped === undefined) !== (condition.uncropped === undefined))
    throw new InvalidArgumentError(
      'one of train_dataset and condition_dataset is cropped at random: load both with the same crop',
    );
}

/** @throws {InvalidArgumentError} when the model cannot encode every timestep of the schedule. */
export function refuseTimesteps({ config, timestepRange }: DiffusionModel, { config: schedule }: Scheduler): void {
  const [least, greatest] = timestepRange ?? [0, Number.POSITIVE_INFINITY];
  const last = schedule.num_train_timesteps - 1;
  if (least <= 0 && last <= greatest) return;
  const range = least > 0 ? 'timesteps above 0' : `the timesteps from ${least} to ${greatest}`;
  throw new InvalidArgumentError(
    `the ${config._class_name} takes ${range}, but the noise schedule has those from 0 to ${last}: choose another time_embedding_type or num_train_timesteps`,
  );
}

/** @throws {InvalidArgumentError} when model, loss and scheduler disagree on whether the variance is learned. */
export function refuseVarianceMismatch(model: DiffusionModel, loss: DiffusionLoss, { config }: Scheduler): void {
  const [channels = 1] = model.sampleShape;
  const { outputChannels = channels } = model;
  const learns = learnsVariance(model);
  if (outputChannels !== channels && !learns)
    throw new InvalidArgumentError(
      `the model has ${outputChannels} output channels for ${channels} of the sample: set out_channels to ${channels}, or to ${2 * channels} for a learned variance`,
    );
  if (learns && !loss.learnsVariance)
    throw new InvalidArgumentError(
      `the model has ${outputChannels} output channels for ${channels} of the sample, a learned variance, which the loss '${loss.config.name}' does not train: wrap it as hybridLoss({ base }), or set out_channels to ${channels}`,
    );
  if (!learns && loss.learnsVariance)
    throw new InvalidArgumentError(
      `the loss '${loss.config.name}' trains a learned variance, but the model has ${outputChannels} output channels for ${channels} of the sample: use a UNet2DModel with out_channels ${2 * channels}, or another loss`,
    );
  const variance_type = 'variance_type' in config ? config.variance_type : undefined;
  if (!learns && (variance_type === 'learned' || variance_type === 'learned_range'))
    throw new InvalidArgumentError(
      `noise_scheduler has variance_type '${variance_type}', but the model has no second half of output channels for it: use 'fixed_small' or 'fixed_large', or set out_channels to ${2 * channels}`,
    );
  if (variance_type === 'learned')
    throw new InvalidArgumentError(
      "noise_scheduler has variance_type 'learned', but hybridLoss trains 'learned_range': leave variance_type out",
    );
}

/**
 * @param ranks the processes that share a step.
 * @throws {InvalidArgumentError} when their batches are no parts of one tree of sums.
 */
export function refuseUnevenTree(args: { readonly gradient_accumulation_steps: number }, ranks: number): void {
  const { gradient_accumulation_steps: batches } = args;
  if (ranks === 1 || Number.isInteger(Math.log2(batches))) return;
  throw new InvalidArgumentError(
    `gradient_accumulation_steps is ${batches} on ${ranks} ranks, but with several ranks it must be 1 or another power of two: only then is the sum of the gradients the same on any number of ranks`,
  );
}

/** What the trainer reports under names of its own. */
const RESERVED = ['step', 'loss', 'grad_norm', 'learning_rate', 'epoch', 'steps_per_second', ...SCALER_REPORT];
const TERM_NAME = /^[A-Za-z][\w./-]{0,63}$/;

/**
 * @throws {InvalidArgumentError} when the name of a term is reserved, or not fit for logs.
 * @throws {GraphError} when the loss or a term is not a float32 scalar.
 */
export function refuseUnusableTerms(lossName: string, { loss, terms }: LossResult): void {
  for (const name of Object.keys(terms)) {
    if (RESERVED.includes(name))
      throw new InvalidArgumentError(
        `loss '${lossName}' has a term '${name}', but the trainer reports ${RESERVED.join(', ')} itself: choose another name`,
      );
    if (!TERM_NAME.test(name))
      throw new InvalidArgumentError(
        `loss '${lossName}' has a term called ${JSON.stringify(name)}: a name begins with a letter and has up to 64 letters, digits, '_', '.', '/' and '-'`,
      );
  }
  for (const [name, { dtype, shape }] of Object.entries({ loss, ...terms }))
    if (dtype !== 'float32' || shape.length > 0)
      throw new GraphError(
        `loss '${lossName}': ${name} is ${dtype} ${formatShape(shape)}, but must be a float32 scalar: reduce it, as reduceMean(x) does`,
      );
}
