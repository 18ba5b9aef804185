// Opens what `pipeline()` is given: a saved folder, a Hub id, or an ONNX file.

import * as path from '#platform/path';
import { mapsFiles } from '#runtime/binding';
import { setTf32 } from '#runtime/tf32';
import type { TilingOptions } from '../autoencoders/tiling.ts';
import { ConfigError, InvalidArgumentError, OnnxFormatError } from '../errors.ts';
import { readJsonFile } from '../files/json.ts';
import { isFile } from '../files/regular-file.ts';
import type { Graph, GraphTarget } from '../graph/graph.ts';
import { writeOnnx } from '../graph/onnx/write.ts';
import { elementCount } from '../graph/types.ts';
import { refuseLocalModel } from '../hub/environment.ts';
import { ONNX_DTYPES, type OnnxDtype } from '../hub/hub-options.ts';
import {
  type ModelPaths,
  openPretrained,
  type PipelineFolder,
  type PretrainedOptions,
  pretrainedShape,
  requireFiles,
} from '../hub/open-pretrained.ts';
import { configSchema, isotropySchema, pipelineFiles } from '../hub/pipeline-folder.ts';
import { isPipelineSource, isWebAddress, type PipelineSource, withPipelineFolder } from '../hub/pipeline-source.ts';
import type { TrainedIsotropy } from '../losses/minimiser.ts';
import { type DiffusionModel, exportModelGraph, type SampleSize } from '../models/model.ts';
import { onnxChecksum, onnxSource } from '../models/onnx/file.ts';
import { type InputNames, inputNamesSchema } from '../models/onnx/inputs.ts';
import { modelFromConfig, models } from '../models/registry.ts';
import { sampleSizeOption, sizedModel } from '../models/sample-size.ts';
import { type Fields, numbersOption, parseOptions } from '../options.ts';
import {
  type ConcreteDevice,
  type Device,
  deviceIdOption,
  isCuda,
  parseDevice,
  requireFloat16,
  resolveDevice,
} from '../runtime/device.ts';
import { DDPMScheduler } from '../schedulers/ddpm.ts';
import { asScheduler, type GivenScheduler, schedulerOfFolder } from '../schedulers/registry.ts';
import type { Scheduler } from '../schedulers/scheduler.ts';
import * as z from '../zod.ts';
import { ModelSession, type ModelSessionOptions } from './model-session.ts';
import { schedulerOption } from './sampling-options.ts';

/** Options of `pipeline()` for points and for images, named as transformers.js names them. */
export interface PipelineOptions extends PretrainedOptions {
  /** Where the model runs; default 'auto', the best device there is, and the cpu for points. 'gpu' is any GPU. */
  readonly device?: Device | null | undefined;
  /**
   * Which GPU the device `cuda` is, from 0 among those that the process sees (`CUDA_VISIBLE_DEVICES`). Default: 0, and with
   * several ranks on a machine each its own. Without effect on other devices.
   */
  readonly device_id?: number | undefined;
  /**
   * Whether the device `cuda` multiplies float32 in TF32, with 10 bits of mantissa instead of 23: faster, and less exact.
   * It is set for the whole process, before CUDA is loaded. Default: as the environment says, true unless
   * `NVIDIA_TF32_OVERRIDE` is 0. Without effect on other devices.
   */
  readonly tf32?: boolean | undefined;
  /**
   * The type in which the model runs: 'fp32', the default, or 'fp16', half precision: less memory, and less time on a GPU,
   * with norms in float32. The folder's `model_fp16.onnx` is opened; without one, a model whose class is registered is
   * made of its weights.
   */
  readonly dtype?: OnnxDtype | null | undefined;
  /** Whether to take the averaged weights, `unet_ema`; default true where the folder has them. */
  readonly ema?: boolean | undefined;
  /**
   * Shape of one sample without the batch axis: [features], or [channels, height, width]. For a model that is opened by
   * an ONNX file with open axes. Default: what the file or its config says.
   */
  readonly sample_shape?: readonly number[] | undefined;
  /**
   * Side, or [height, width], of the images in pixels, for a U-Net whose config leaves it open (`sample_size: null`), or that
   * shall draw in another size than its own. Default: what the config says.
   */
  readonly sample_size?: SampleSize | undefined;
  /**
   * The names of an ONNX file's inputs, where neither their names nor their shapes tell which is which; default: they are
   * found.
   */
  readonly input_names?: InputNames | undefined;
  /**
   * A scheduler, its JSON config, or the class name of a registered one, which gets the folder's noise schedule. Default
   * the folder's own; DDPM's defaults for an ONNX file, which comes without one.
   */
  readonly scheduler?: GivenScheduler | undefined;
}

/** Options of `pipeline('unconditional-image-generation', ...)`. */
export interface ImagePipelineOptions extends PipelineOptions {
  /**
   * Of latent diffusion: whether images larger than a tile are decoded and encoded in overlapping tiles, which needs the memory
   * of one tile and gives nearly the same. Default false; true is diffusers' tiles, of the autoencoder's `sample_size`.
   */
  readonly tiling?: boolean | TilingOptions | undefined;
}

const textOrNull = <Text extends string>() =>
  z.optional(z.custom<Text | null>((value) => typeof value === 'string' || value === null, 'must be a text'));

/** An unknown device or dtype is refused where it is looked up. */
const pipelineSchema = z.strictObject({
  ...pretrainedShape,
  device: textOrNull<Device>(),
  device_id: z.optional(deviceIdOption),
  tf32: z.optional(z.boolean()),
  dtype: textOrNull<OnnxDtype>(),
  ema: z.optional(z.boolean()),
  sample_shape: z.optional(numbersOption),
  sample_size: z.optional(sampleSizeOption),
  input_names: z.optional(inputNamesSchema),
  scheduler: z.optional(schedulerOption),
  tiling: z.optional(z.custom<boolean | TilingOptions>((value) => value !== null, 'must be true, false or options')),
} satisfies Fields<ImagePipelineOptions>);

/**
 * What `pipeline()` was given for points or images.
 *
 * @throws {InvalidArgumentError} when the model is neither a text nor a source, or an option is of a wrong type or unknown.
 */
export function checkPipelineArguments(model: unknown, options: unknown): ImagePipelineOptions {
  if (!isPipelineSource(model) && (typeof model !== 'string' || model === ''))
    throw new InvalidArgumentError(
      `no model was named, but ${JSON.stringify(model) ?? String(model)}: pass the folder of a saved pipeline, such as './runs/swiss-roll/pipeline', or a Hub id`,
    );
  return parseOptions(pipelineSchema, options, 'options of pipeline()');
}

/**
 * Calls `use` with what names the model in a folder or on the Hub: the model itself, or a temporary folder that its
 * source was unpacked to.
 */
export async function withLocalModel<T>(
  model: string | PipelineSource | null | undefined,
  { variant, dtype, ema = true }: PipelineOptions,
  kind: Kind,
  use: (name: string | null | undefined) => Promise<T>,
): Promise<T> {
  if (!isPipelineSource(model) && !(typeof model === 'string' && isWebAddress(model))) return use(model);
  return withPipelineFolder(model, { variant, dtype, ema, prefer: kind === 'points' ? 'onnx' : 'weights' }, use);
}

/** What a pipeline is made of. */
export interface LoadedPipeline {
  readonly model: ModelSession;
  readonly scheduler: Scheduler;
  /** The folder; undefined for an ONNX file alone. */
  readonly dir: string | undefined;
  /** The model in the form for its device: its bytes, without weights that stay in their files; or the path of an ONNX file
   * that has weights beside it. */
  readonly onnx: Uint8Array | string;
  /** The same as a graph, where it was built from weights that are in memory. */
  readonly graph: Graph | undefined;
  /** The SHA-256 of the model in the form of files, with its external data: the same on every device. */
  checksum(): Promise<string>;
  /** Number of classes; undefined where there are none, and for an ONNX file, which does not say. */
  readonly classCount: number | undefined;
  /** The folder of what decodes the latents that the model draws, where it draws latents. */
  readonly autoencoder: string | undefined;
  /** Undefined where nobody has measured it, and for an ONNX file. */
  readonly isotropy: TrainedIsotropy | undefined;
  /** The type in which it was asked to run. */
  readonly dtype: OnnxDtype;
}

/** Whether a folder draws points, not images. The model is not loaded. @throws {ConfigError} for a wrong model config. */
export async function drawsPoints({ dir, unetConfig }: PipelineFolder): Promise<boolean> {
  if (models.find(unetConfig._class_name)) {
    const model = modelFromConfig(unetConfig);
    // What can be made larger is an image, which may have no size yet.
    return model.withSampleSize === undefined && model.sampleShape.length === 1;
  }
  return isFile(path.join(dir, pipelineFiles.pointScaler));
}

/**
 * The shape of what a folder draws, images or points, without the batch; undefined for a class that is not registered. No
 * model is loaded.
 *
 * @throws {ConfigError} for a wrong config.
 */
export async function drawnShape({ unetConfig, autoencoder }: PipelineFolder): Promise<readonly number[] | undefined> {
  if (!models.find(unetConfig._class_name)) return undefined;
  const { sampleShape } = modelFromConfig(unetConfig);
  if (autoencoder === undefined) return sampleShape;
  const config = await readJsonFile(path.join(autoencoder, pipelineFiles.config), configSchema);
  const { autoencoders, autoencoderFromConfig } = await import('../autoencoders/registry.ts');
  if (!autoencoders.find(config._class_name)) return undefined;
  const { channels, downsampling } = autoencoderFromConfig(config);
  const [, height = 1, width = 1] = sampleShape;
  return [channels, height * downsampling, width * downsampling];
}

type Kind = 'points' | 'images';

/**
 * Loads a pipeline folder. A model whose class is registered is built from its weights: a folder of diffusers has no ONNX
 * file, and one beside could be outdated. For points, whose ONNX file is the small one, and for a class that is not
 * registered, the folder's ONNX file is opened where there is one.
 *
 * @throws {InvalidArgumentError} for an unknown device or dtype. @throws {DeviceError} when the device cannot be used, or
 * `tf32` comes too late.
 * @throws {FileFormatError} when a file is missing or malformed, or the model is of another kind.
 */
export async function loadFolder(
  name: string | null | undefined,
  options: PipelineOptions,
  kind: Kind,
): Promise<LoadedPipeline> {
  const wantedDevice = checkedDevice(options, kind);
  const dtype = options.dtype ?? 'fp32';
  const folder = await openPretrained(name, { ...options, require: [] });
  const { dir, unetConfig: config, autoencoder } = folder;
  const paths = ((options.ema ?? true) && folder.emaPaths) || folder.paths;
  const isRegistered = models.find(config._class_name) !== undefined;
  const architecture = isRegistered ? sizedModel(modelFromConfig(config), options.sample_size) : undefined;
  const hasOnnx = await isFile(paths.onnx);
  if (architecture) {
    refuseOtherKind(architecture, dir, kind);
    if (kind === 'images' || !hasOnnx) await requireFiles(folder, ['weights']);
  } else if (options.sample_size !== undefined) refuseSampleSize(paths.onnx);
  else if (!hasOnnx)
    throw new ConfigError(
      `${dir} holds a model of the class ${config._class_name}, which is not registered, and no ${path.relative(dir, paths.onnx)} to open it by: import what registers the class, or save the pipeline with this package${dtype === 'fp16' ? " and onnx_dtype: 'fp16'" : ''}`,
    );
  const scheduler = schedulerOfFolder(folder.schedulerConfig, options.scheduler);
  const isotropy = await readIsotropy(path.dirname(paths.onnx));
  const device = await deviceFor(wantedDevice, options, kind);
  const built = kind === 'images' || !hasOnnx ? architecture : undefined;
  const source = await modelSource(paths, built, dtype, device);
  const { onnx, graph, checksum } = source;
  const shape =
    architecture?.sampleShape ??
    ((declared: DeclaredSample) => openShape(declared, options.sample_shape, config, paths.onnx, kind));
  const input_names = options.input_names ?? savedInputNames(config);
  const model = await ModelSession.create(onnx, config, shape, device, { ...source.session, input_names });
  const { classCount } = architecture ?? {};
  return { model, scheduler, dir, onnx, graph, checksum, classCount, autoencoder, isotropy, dtype };
}

/** What the folder of a model says of its isotropy; undefined where it says nothing, or lambda is not known. */
async function readIsotropy(folder: string): Promise<TrainedIsotropy | undefined> {
  const file = path.join(folder, pipelineFiles.isotropy);
  if (!(await isFile(file))) return undefined;
  const { isotropy, lambda } = await readJsonFile(file, isotropySchema);
  return lambda === null ? undefined : { isotropy, lambda };
}

/** The names of the inputs in the config of a model that was read from an ONNX file. @throws {ConfigError} for others. */
function savedInputNames({ input_names }: Readonly<Record<string, unknown>>): InputNames | undefined {
  if (input_names === undefined || input_names === null) return undefined;
  return parseOptions(inputNamesSchema, input_names, 'input_names in config.json', ConfigError);
}

/** Loads any ONNX model that takes samples [batch, channels, height, width] and a timestep. @throws as `loadFolder`. */
export async function loadImageOnnx(file: string, options: ImagePipelineOptions): Promise<LoadedPipeline> {
  refuseLocalModel(file);
  const wantedDevice = checkedDevice(options, 'images');
  if (options.dtype === 'fp16')
    throw new InvalidArgumentError(
      `dtype is 'fp16', but ${file} runs in the types that it has: leave dtype out, and pass a file in float16, such as model_fp16.onnx`,
    );
  const ddpm = new DDPMScheduler();
  const scheduler = options.scheduler === undefined ? ddpm : asScheduler(options.scheduler, ddpm);
  if (options.sample_size !== undefined) refuseSampleSize(file);
  const onnx = await onnxSource(file);
  const device = await deviceFor(wantedDevice, options, 'images');
  const shape = (declared: DeclaredSample) => openShape(declared, options.sample_shape, {}, file, 'images');
  const model = await ModelSession.create(onnx, {}, shape, device, { input_names: options.input_names });
  const checksum = await known(onnx);
  return {
    model,
    scheduler,
    dir: undefined,
    onnx,
    graph: undefined,
    checksum,
    classCount: undefined,
    autoencoder: undefined,
    isotropy: undefined,
    dtype: 'fp32',
  };
}

function checkedDevice({ device, dtype }: PipelineOptions, kind: Kind): Device {
  if (!ONNX_DTYPES.includes(dtype ?? 'fp32'))
    throw new InvalidArgumentError(`dtype '${dtype}': models of ${kind} run in ${ONNX_DTYPES.join(' or ')}`);
  return parseDevice(device ?? 'auto');
}

async function deviceFor(
  wanted: Device,
  { tf32, device_id, dtype }: PipelineOptions,
  samples: Kind,
): Promise<ConcreteDevice> {
  const device = await resolveDevice(wanted, { samples, device_id });
  if (isCuda(device) && tf32 !== undefined) setTf32(tf32);
  if (dtype === 'fp16') await requireFloat16(device, "dtype 'fp16'");
  return device;
}

function refuseSampleSize(file: string): never {
  throw new InvalidArgumentError(
    `sample_size is for models that are built from their weights, but ${file} is opened as it is: give sample_shape where it leaves its axes open`,
  );
}

function refuseOtherKind({ config, sampleShape }: DiffusionModel, dir: string, kind: Kind): void {
  if (isShapeOf(kind, sampleShape)) return;
  const wanted = kind;
  throw new ConfigError(
    `${dir} holds a ${config._class_name} for samples of shape [${sampleShape.join(', ')}], not for ${wanted}`,
  );
}

function isShapeOf(kind: Kind, shape: readonly number[]): boolean {
  return shape.length === (kind === 'points' ? 1 : 3);
}

/**
 * A model of more bytes is mapped from its files on the cpu, and onnxruntime lays no memory out ahead for it. For the U-Net
 * of ddpm-cifar10 and batches of 16 that is 450 MiB instead of 1,100. Small models are up to 12 % faster with a plan.
 */
const MIN_MAPPED_MODEL_BYTES = 2 ** 24;

interface ModelSource extends Pick<LoadedPipeline, 'onnx' | 'graph' | 'checksum'> {
  /** How it is to be run. */
  readonly session?: ModelSessionOptions;
}

/** Built from the weights where the architecture is given, else the ONNX file. */
async function modelSource(
  paths: ModelPaths,
  architecture: DiffusionModel | undefined,
  dtype: OnnxDtype,
  device: ConcreteDevice,
): Promise<ModelSource> {
  if (!architecture) {
    const onnx = await onnxSource(paths.onnx);
    return { onnx, graph: undefined, checksum: await known(onnx) };
  }
  const timestepType = architecture.takesFractionalTimesteps ? 'float32' : 'int64';
  const parameters = architecture.parameters.reduce((sum, { shape }) => sum + elementCount(shape), 0);
  const isLarge = parameters * Float32Array.BYTES_PER_ELEMENT >= MIN_MAPPED_MODEL_BYTES;
  if (mapsFiles && device === 'cpu' && dtype === 'fp32' && isLarge) {
    const { storedModel } = await import('../models/stored-model.ts');
    const { onnx, weightsFolder, checksum } = await storedModel(architecture, paths.weights, timestepType);
    return { onnx, graph: undefined, checksum, session: { weightsFolder, plansMemory: false } };
  }
  const { readModelWeights } = await import('../models/weights.ts');
  const build = async (target: GraphTarget) => {
    const weights = await readModelWeights(architecture, paths.weights);
    return exportModelGraph(architecture, weights, timestepType, dtype === 'fp16' ? 'float16' : 'float32', target);
  };
  const graph = await build(isCuda(device) ? 'cuda' : 'any');
  const onnx = writeOnnx(graph);
  return { onnx, graph, checksum: await known(graph.target === 'cuda' ? writeOnnx(await build('any')) : onnx) };
}

/** The checksum of a model, taken now: its bytes need not be kept. */
async function known(onnx: Uint8Array | string): Promise<() => Promise<string>> {
  const sha256 = await onnxChecksum(onnx);
  return async () => sha256;
}

interface DeclaredSample {
  readonly name: string;
  readonly shape: readonly (number | string)[];
}

/**
 * The shape of a sample as an ONNX file declares it. Axes that it leaves open are as in `wanted`, or as its config says:
 * `sample_shape`, or `in_channels` and `sample_size`.
 *
 * @throws {OnnxFormatError} unless that is a shape of the kind, and `wanted` agrees with it.
 */
function openShape(
  { name, shape: declared }: DeclaredSample,
  wanted: readonly number[] | undefined,
  config: Readonly<Record<string, unknown>>,
  file: string,
  kind: Kind,
): readonly number[] {
  const { sample_shape, in_channels, sample_size } = config;
  const size = Array.isArray(sample_size) ? sample_size : [sample_size, sample_size];
  const described: readonly unknown[] = Array.isArray(sample_shape) ? sample_shape : [in_channels, ...size];
  const shape = declared
    .slice(1)
    .map((dim, axis) => (typeof dim === 'number' && dim > 0 ? dim : (wanted?.[axis] ?? described[axis])))
    .filter((dim): dim is number => Number.isSafeInteger(dim) && Number(dim) > 0);
  const agrees = !wanted || (wanted.length === shape.length && wanted.every((dim, axis) => dim === shape[axis]));
  if (declared.length === shape.length + 1 && isShapeOf(kind, shape) && agrees) return shape;
  const [axes, example] =
    kind === 'images'
      ? ['[batch, channels, height, width]', '[channels, height, width]']
      : ['[batch, features]', '[features]'];
  throw new OnnxFormatError(
    `${file}: the input '${name}' is [${declared.join(', ')}]${wanted ? ` and sample_shape [${wanted.join(', ')}]` : ''}, not ${axes} and a known size: give sample_shape ${example} where the file leaves it open`,
  );
}
