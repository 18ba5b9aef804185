import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { RawImage, Tensor } from '@huggingface/transformers';
import { z } from 'zod';
import { ConfigError, InvalidArgumentError, OnnxFormatError } from '../errors.ts';
import { writeOnnx } from '../graph/onnx/write.ts';
import { elementCount } from '../graph/tensor-type.ts';
import { openPretrained, type PretrainedOptions } from '../hub/open-pretrained.ts';
import { type PipelineFolder, readPipelineFolder } from '../hub/pipeline-folder.ts';
import { exportModelGraph } from '../models/model.ts';
import { modelFromConfig } from '../models/model-from-config.ts';
import { onnxSource } from '../models/onnx-file.ts';
import { readModelWeights } from '../models/pretrained-weights.ts';
import type { SampleSeed } from '../random/sample-streams.ts';
import { type ConcreteDevice, type Device, parseDevice, resolveDevice } from '../runtime/device.ts';
import { Session } from '../runtime/session.ts';
import { DDPMScheduler, type DiffusionScheduler, schedulerFromConfig } from '../schedulers/index.ts';
import { spacedTimesteps } from '../schedulers/timesteps.ts';
import { type ClassOptions, checkClassOptions, guidedPrediction } from './class-guidance.ts';
import { type ImageBytes, toImageBytes } from './image-bytes.ts';
import { generateIntoFolder, type ImageFolderOptions } from './image-folder.ts';
import type { ModelSession } from './model-session.ts';
import { ReverseProcess, type StepCallback } from './reverse-process.ts';

/** Options of `pipeline('unconditional-image-generation', ...)`, named as transformers.js names them. */
export interface ImagePipelineOptions extends PretrainedOptions {
  /** `auto` (default), `cpu`, `webgpu`, `cuda` or `gpu`. */
  readonly device?: string | null;
  /** Only 'fp32' (default). */
  readonly dtype?: string | null;
  /**
   * For an ONNX file, which comes without one: a scheduler, or the JSON config of one; default DDPM's. A folder has its
   * own.
   */
  readonly scheduler?: DiffusionScheduler | Readonly<Record<string, unknown>>;
  /** For an ONNX file that leaves its axes open: [channels, height, width] of the pictures. */
  readonly sample_shape?: readonly number[];
  /** Whether to take the averaged weights, `unet_ema`; default true where the folder has them. */
  readonly ema?: boolean;
}

export interface ImageGenerationOptions extends ClassOptions {
  /** Pictures to draw, 1 or more; default 1. */
  readonly batch_size?: number;
  /** Steps of the reverse process, 1 to the scheduler's `num_train_timesteps`; default 1000, or fewer if T is less. */
  readonly num_inference_steps?: number;
  /** An integer >= 0, default 0, or one for each picture: as for points, picture i depends on the seed and i alone. */
  readonly seed?: SampleSeed;
  /** Used instead of `generate.scheduler`: a scheduler, or the JSON config of one. */
  readonly scheduler?: DiffusionScheduler | Readonly<Record<string, unknown>>;
  /** DDIM's eta, 0 (default, deterministic) to 1. */
  readonly eta?: number;
  /** Called after every step with all pictures of the batch; may return `{ sample }` to go on with. */
  readonly callback_on_step_end?: StepCallback;
  /** Called with the fraction done, 0 to 1. */
  readonly on_progress?: (fraction: number) => void;
  /** Stops between steps; the promise rejects with `signal.reason`. */
  readonly signal?: AbortSignal;
}

/**
 * Draws pictures from a diffusion model, as diffusers' `DDPMPipeline` does.
 *
 * With `output_type` 'image' (default) the result is one `RawImage` for a `batch_size` of 1, else an array of them;
 * with 'tensor' a transformers.js `Tensor` [batch_size, channels, height, width] in [0, 1]; with 'uint8' bytes,
 * [batch_size, height, width, channels].
 *
 * @throws {InvalidArgumentError} when an option is out of range.
 * @throws `signal.reason` when the signal aborts.
 * @example
 * const generate = await pipeline('unconditional-image-generation', './runs/digits/pipeline');
 * const image = await generate({ num_inference_steps: 50, seed: 7 });
 * await image.save('digit.png');
 */
export interface UnconditionalImageGenerationPipeline {
  (options?: ImageGenerationOptions & { output_type?: 'image' }): Promise<RawImage | RawImage[]>;
  (options: ImageGenerationOptions & { output_type: 'tensor' }): Promise<Tensor>;
  (options: ImageGenerationOptions & { output_type: 'uint8' }): Promise<ImageBytes>;
  readonly task: 'unconditional-image-generation';
  readonly model: ModelSession;
  /** May be replaced, as in diffusers. */
  scheduler: DiffusionScheduler;
  /**
   * Draws `count` pictures into a folder as PNG files, batch after batch; goes on where an earlier call stopped, which
   * may have been killed. `generation.json` there says how they were made; a call with other settings is refused.
   */
  toFolder(folder: string, options: ImageFolderOptions): Promise<string[]>;
  /** Draws `count` pictures as bytes, `batch_size` at a time, so that any number of them needs the memory of a batch. */
  batches(options: ImageFolderOptions): AsyncGenerator<ImageBytes>;
  /** Frees the sessions; the pipeline cannot be used afterwards. */
  dispose(): Promise<void>;
}

/** Pictures that go through the model at once: more would only take memory. */
const GROUP = 16;
const countSchema = z
  .int()
  .min(1)
  .max(2 ** 24);

/**
 * Loads a saved pipeline folder, with an ONNX file or with safetensors alone, or a path that ends in `.onnx`; see
 * `pipeline`.
 */
export async function loadUnconditionalImageGeneration(
  model: string | null | undefined,
  options: ImagePipelineOptions = {},
): Promise<UnconditionalImageGenerationPipeline> {
  const wantedDevice = parseDevice(options.device ?? 'auto');
  if ((options.dtype ?? 'fp32') !== 'fp32')
    throw new InvalidArgumentError(`dtype '${options.dtype}': models of pictures are 'fp32' only`);
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
      `${folder.dir} holds a ${architecture.config._class_name} for samples of shape [${sampleShape.join(', ')}], not for pictures of 1, 3 or 4 channels`,
    );
  const device = await resolveDevice(wantedDevice);
  const onnx = await modelOnnx(folder, ema, architecture);
  const process = await ReverseProcess.fromOnnx(onnx, { ...architecture.config }, sampleShape, device);
  return imagePipeline(process, schedulerFromConfig(folder.schedulerConfig), {
    classCount: architecture.classCount,
    sha256: sha256(onnx),
  });
}

/** Any ONNX model with the inputs `sample` [batch, channels, height, width] and `timestep`. */
async function loadOnnxFile(
  file: string,
  wantedDevice: Device,
  scheduler: ImagePipelineOptions['scheduler'] = { _class_name: 'DDPMScheduler' },
  config: Readonly<Record<string, unknown>>,
): Promise<UnconditionalImageGenerationPipeline> {
  const onnx = await onnxSource(file);
  const device = await resolveDevice(wantedDevice);
  const shape = await declaredSampleShape(onnx, device, file, config.sample_shape);
  const process = await ReverseProcess.fromOnnx(onnx, config, shape, device);
  return imagePipeline(process, chosenScheduler(scheduler, new DDPMScheduler()), {
    sha256: sha256(typeof onnx === 'string' ? await readFile(onnx) : onnx),
  });
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

/** What a pipeline knows of its model beside the session. */
interface ModelFacts {
  /** Undefined where there are none, and for an ONNX file, which does not say. */
  readonly classCount?: number;
  /** Of the ONNX file. */
  readonly sha256: string;
}

function imagePipeline(
  process: ReverseProcess,
  scheduler: DiffusionScheduler,
  { classCount, sha256 }: ModelFacts,
): UnconditionalImageGenerationPipeline {
  /** Samples first .. first + count - 1 of a run, in model units; `group` of them go through the model at once. */
  const sample = async (options: ImageGenerationOptions, first: number, count: number, group = GROUP) => {
    const size = elementCount(process.model.sampleShape);
    const result = new Float32Array(count * size);
    const together = options.callback_on_step_end ? count : group;
    for (let done = 0; done < count; done += together) {
      const batchSize = Math.min(together, count - done);
      const samples = await process.run({
        ...settingsOf(options),
        batchSize,
        firstSample: first + done,
        predict: guidedPrediction(process.model, classCount, options, first + done),
        callback: options.callback_on_step_end,
        onProgress: (fraction) => options.on_progress?.((done + fraction * batchSize) / count),
        signal: options.signal,
      });
      result.set(samples, done * size);
    }
    return result;
  };
  const settingsOf = ({ scheduler: given, num_inference_steps, seed = 0, eta }: ImageGenerationOptions) => {
    const active = chosenScheduler(given, self.scheduler);
    const steps = num_inference_steps ?? Math.min(1000, active.config.num_train_timesteps);
    return { scheduler: active, num_inference_steps: steps, seed, eta };
  };
  const check = (options: ImageGenerationOptions, count: number) => {
    checkOptions(options, count);
    checkClassOptions(process.model, classCount, options, count);
  };
  const bytes = async (...drawn: Parameters<typeof sample>) =>
    toImageBytes(await sample(...drawn), process.model.sampleShape);

  const generate = async (options: ImageGenerationOptions & { output_type?: string } = {}) => {
    const { batch_size = 1, output_type = 'image' } = options;
    check(options, batch_size);
    checkOutputType(output_type);
    if (output_type === 'uint8') return bytes(options, 0, batch_size);
    const { RawImage, Tensor } = await import('@huggingface/transformers');
    if (output_type === 'tensor') {
      const scaled = (await sample(options, 0, batch_size)).map((x) => Math.min(Math.max((x + 1) / 2, 0), 1));
      return new Tensor('float32', scaled, [batch_size, ...process.model.sampleShape]);
    }
    const { data, height, width, channels } = await bytes(options, 0, batch_size);
    const images = Array.from({ length: batch_size }, (_, i) => {
      const size = height * width * channels;
      return new RawImage(data.slice(i * size, (i + 1) * size), width, height, channels);
    });
    return batch_size === 1 ? images[0] : images;
  };
  const toFolder = async (folder: string, options: ImageFolderOptions) => {
    check(options, options.count);
    if (options.batch_size !== undefined) checkCount('batch_size', options.batch_size);
    const { scheduler: active, ...settings } = settingsOf(options);
    // A wrong number of steps is refused before the folder is made.
    spacedTimesteps(settings.num_inference_steps, active.config);
    const record = {
      model_sha256: sha256,
      scheduler: active.toConfig(),
      num_inference_steps: settings.num_inference_steps,
      seed: listOrNumber(settings.seed),
      eta: settings.eta ?? 0,
      guidance_scale: options.guidance_scale ?? 1,
      class_labels: options.class_labels === undefined ? null : listOrNumber(options.class_labels),
    };
    return generateIntoFolder(folder, options, record, (first, count, on_progress) =>
      bytes({ ...options, on_progress }, first, count, options.batch_size),
    );
  };
  const self = Object.assign(generate, {
    task: 'unconditional-image-generation' as const,
    model: process.model,
    scheduler,
    toFolder,
    batches: async function* (options: ImageFolderOptions) {
      check(options, options.count);
      const { batch_size = GROUP } = options;
      checkCount('batch_size', batch_size);
      for (let first = 0; first < options.count; first += batch_size) {
        const size = Math.min(batch_size, options.count - first);
        const on_progress = (fraction: number) =>
          options.on_progress?.((first + fraction * size) / options.count);
        yield bytes({ ...options, on_progress }, first, size, batch_size);
      }
    },
    dispose: () => process.release(),
  }) as UnconditionalImageGenerationPipeline;
  return self;
}

function listOrNumber(value: number | readonly number[]): number | number[] {
  return typeof value === 'number' ? value : [...value];
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function checkOptions({ seed = 0, eta = 0 }: ImageGenerationOptions, count: number): void {
  checkCount('the number of pictures', count);
  if (!(eta >= 0 && eta <= 1)) throw new InvalidArgumentError(`eta is ${eta}, but must be in [0, 1]`);
  if (typeof seed !== 'number' && seed.length !== count)
    throw new InvalidArgumentError(
      `seed is a list of ${seed.length}, but ${count} pictures were asked for: give one seed, or one for each`,
    );
}

function checkCount(what: string, count: number): void {
  if (!countSchema.safeParse(count).success)
    throw new InvalidArgumentError(`${what} is ${count}, but must be an integer from 1 to 2^24`);
}

function checkOutputType(outputType: string): void {
  if (!['image', 'tensor', 'uint8'].includes(outputType))
    throw new InvalidArgumentError(
      `output_type '${outputType}' is unknown: use 'image', 'tensor' or 'uint8'`,
    );
}

function chosenScheduler(
  given: ImageGenerationOptions['scheduler'],
  own: DiffusionScheduler,
): DiffusionScheduler {
  if (given === undefined) return own;
  const isScheduler = typeof given.step === 'function' && typeof given.setTimesteps === 'function';
  return isScheduler ? (given as DiffusionScheduler) : schedulerFromConfig(given);
}
