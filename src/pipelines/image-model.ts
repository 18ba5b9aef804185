import { ConfigError, InvalidArgumentError, OnnxFormatError } from '../errors.ts';
import { writeOnnx } from '../graph/onnx/write.ts';
import {
  openPretrained,
  type PipelineFolder,
  type PretrainedOptions,
  readPipelineFolder,
} from '../hub/open-pretrained.ts';
import { exportModelGraph } from '../models/model.ts';
import { onnxChecksum, onnxSource } from '../models/onnx-file.ts';
import { readModelWeights } from '../models/pretrained-weights.ts';
import { modelFromConfig } from '../models/registry.ts';
import { type ConcreteDevice, type Device, parseDevice, resolveDevice } from '../runtime/device.ts';
import { Session } from '../runtime/session.ts';
import { DDPMScheduler, type Scheduler, schedulerFromConfig } from '../schedulers/index.ts';
import { asScheduler, type GivenScheduler } from '../schedulers/registry.ts';
import { ReverseProcess } from './reverse-process.ts';

/** Options of `pipeline('unconditional-image-generation', ...)`, named as transformers.js names them. */
export interface ImagePipelineOptions extends PretrainedOptions {
  /** `auto` (default), `cpu`, `webgpu`, `cuda` or `gpu`. */
  readonly device?: string | null | undefined;
  /** Only 'fp32' (default). */
  readonly dtype?: string | null | undefined;
  /**
   * For an ONNX file, which comes without one: a scheduler, or the JSON config of one; default DDPM's. A folder has its
   * own.
   */
  readonly scheduler?: GivenScheduler | undefined;
  /** For an ONNX file that leaves its axes open: [channels, height, width] of the images. */
  readonly sample_shape?: readonly number[] | undefined;
  /** Whether to take the averaged weights, `unet_ema`; default true where the folder has them. */
  readonly ema?: boolean | undefined;
}

/** What a pipeline of images is made of. */
export interface ImageModel {
  readonly process: ReverseProcess;
  readonly scheduler: Scheduler;
  /** Undefined where there are none, and for an ONNX file, which does not say. */
  readonly classCount?: number | undefined;
  /** Of the ONNX file, with its external data. */
  readonly sha256: string;
}

/**
 * The model of a saved pipeline folder, with an ONNX file or with safetensors alone, or of a path that ends in `.onnx`.
 *
 * @throws {InvalidArgumentError} for an unknown device or dtype. @throws {DeviceError} when the device cannot be used.
 * @throws {FileFormatError} when a file is missing or malformed, or no model of images.
 */
export async function loadImageModel(
  model: string | null | undefined,
  options: ImagePipelineOptions,
): Promise<ImageModel> {
  const wantedDevice = parseDevice(options.device ?? 'auto');
  if ((options.dtype ?? 'fp32') !== 'fp32')
    throw new InvalidArgumentError(`dtype '${options.dtype}': models of images are 'fp32' only`);
  if (model?.endsWith('.onnx'))
    return loadOnnxFile(model, wantedDevice, options.scheduler, {
      sample_shape: options.sample_shape,
    });
  const opened = await openPretrained(model, { ...options, require: [] });
  const ema = options.ema ?? true;
  if (opened.unetConfig._class_name === 'OnnxModel') {
    const { onnx } = (ema && opened.emaPaths) || opened.paths;
    return loadOnnxFile(onnx, wantedDevice, opened.schedulerConfig, opened.unetConfig);
  }
  const folder = await readPipelineFolder(opened.dir, { require: ['weights'], variant: options.variant });
  const architecture = modelFromConfig(folder.unetConfig);
  const { sampleShape } = architecture;
  if (sampleShape.length !== 3 || ![1, 3, 4].includes(sampleShape[0] ?? 0))
    throw new ConfigError(
      `${folder.dir} holds a ${architecture.config._class_name} for samples of shape [${sampleShape.join(', ')}], not for images of 1, 3 or 4 channels`,
    );
  const scheduler = schedulerFromConfig(folder.schedulerConfig);
  const device = await resolveDevice(wantedDevice);
  const onnx = await modelOnnx(folder, ema, architecture);
  const sha256 = await onnxChecksum(onnx);
  const process = await ReverseProcess.fromOnnx(onnx, { ...architecture.config }, sampleShape, device);
  return { process, scheduler, classCount: architecture.classCount, sha256 };
}

/** Any ONNX model with the inputs `sample` [batch, channels, height, width] and `timestep`. */
async function loadOnnxFile(
  file: string,
  wantedDevice: Device,
  given: GivenScheduler = { _class_name: 'DDPMScheduler' },
  config: Readonly<Record<string, unknown>>,
): Promise<ImageModel> {
  const scheduler = asScheduler(given, new DDPMScheduler());
  const onnx = await onnxSource(file);
  const device = await resolveDevice(wantedDevice);
  const shape = await declaredSampleShape(onnx, device, file, config.sample_shape);
  const sha256 = await onnxChecksum(onnx);
  const process = await ReverseProcess.fromOnnx(onnx, config, shape, device);
  return { process, scheduler, sha256 };
}

/**
 * The shape of a sample as the file declares it; axes that it leaves open are as in `wanted`.
 *
 * @throws {OnnxFormatError} unless that is 1, 3 or 4 channels of a known size.
 */
async function declaredSampleShape(
  onnx: Uint8Array | string,
  device: ConcreteDevice,
  file: string,
  wanted: unknown,
): Promise<number[]> {
  const session = await Session.create(onnx, device);
  const declared = session.inputType('sample')?.shape ?? [];
  await session.release();
  const given = Array.isArray(wanted) ? wanted : [];
  const sizes = declared
    .slice(1)
    .map((dim, axis) => (typeof dim === 'number' && dim > 0 ? dim : given[axis]))
    .filter((dim): dim is number => Number.isSafeInteger(dim) && dim > 0);
  const agrees =
    given.length === 0 || (given.length === 3 && given.every((dim, axis) => dim === sizes[axis]));
  if (declared.length === 4 && sizes.length === 3 && [1, 3, 4].includes(sizes[0] ?? 0) && agrees)
    return sizes;
  throw new OnnxFormatError(
    `${file}: the input 'sample' is [${declared.join(', ')}]${given.length > 0 ? ` and sample_shape [${given.join(', ')}]` : ''}, not [batch, channels, height, width] with 1, 3 or 4 channels and a known size: give sample_shape [channels, height, width] where the file leaves it open`,
  );
}

/** The model built from the weights: a folder of diffusers has no ONNX file, and one beside could be outdated. */
async function modelOnnx(
  { paths, emaPaths }: PipelineFolder,
  ema: boolean,
  architecture: ReturnType<typeof modelFromConfig>,
): Promise<Uint8Array> {
  const weights = await readModelWeights(architecture, ((ema && emaPaths) || paths).weights);
  return writeOnnx(exportModelGraph(architecture, weights));
}
