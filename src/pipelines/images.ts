import type { RawImage, Tensor } from '@huggingface/transformers';
import { z } from 'zod';
import { InvalidArgumentError } from '../errors.ts';
import { elementCount } from '../graph/types.ts';
import type { TrainedIsotropy } from '../losses/minimiser.ts';
import { onnxChecksum } from '../models/onnx/file.ts';
import { type Fields, numberOption, parseOptions } from '../options.ts';
import type { Scheduler } from '../schedulers/scheduler.ts';
import { type ClassOptions, classShape, guidedPrediction, readClassOptions } from './guidance.ts';
import { type GenerationRecord, generateIntoFolder, type ImageBytes, toImageBytes } from './image-output.ts';
import {
  checkPipelineArguments,
  type ImagePipelineOptions,
  type LoadedPipeline,
  loadFolder,
  loadImageOnnx,
} from './load.ts';
import type { ModelSession } from './model-session.ts';
import { sample } from './sample.ts';
import { checkCount, readSamplingOptions, type SamplingOptions, samplingShape } from './sampling-options.ts';

export interface ImageGenerationOptions extends SamplingOptions, ClassOptions {
  /** Images to draw, 1 to 2^28; default 1. */
  readonly batch_size?: number | undefined;
}

export interface ImageFolderOptions extends SamplingOptions, ClassOptions {
  /** Images to draw in all, or that the folder shall have in the end, 1 to 2^28. */
  readonly count: number;
  /** Images that go through the model at a time, 1 or more; default 16. */
  readonly batch_size?: number | undefined;
}

/** One image for a `batch_size` of 1, else an array of them. */
export type GeneratedImages<Count extends number> = number extends Count
  ? RawImage | RawImage[]
  : Count extends 1
    ? RawImage
    : RawImage[];

/**
 * Draws images from a diffusion model, as diffusers' `DDPMPipeline` does. Options are read when it is called: what the
 * caller changes later has no effect.
 *
 * With `output_type` 'image' (default) the result is one `RawImage` for a `batch_size` of 1, else an array of them;
 * with 'tensor' a transformers.js `Tensor` [batch_size, channels, height, width] in [0, 1]; with 'uint8' bytes,
 * [batch_size, height, width, channels]. A model whose samples do not have 1, 3 or 4 channels gives no images and no PNG
 * files: 'tensor', 'uint8' and `batches` are for it.
 *
 * @throws {InvalidArgumentError} when an option is wrong or unknown.
 * @throws {NonFiniteSampleError} when the model or the scheduler gives NaN or infinity, with the step.
 * @throws {DisposedError} after `dispose()`.
 * @throws `signal.reason` when the signal aborts.
 * @example
 * const generate = await pipeline('unconditional-image-generation', './runs/digits/pipeline');
 * const image = await generate({ num_inference_steps: 50, seed: 7 });
 * await image.save('digit.png');
 */
export interface UnconditionalImageGenerationPipeline {
  (options: ImageGenerationOptions & { readonly output_type: 'tensor' }): Promise<Tensor>;
  (options: ImageGenerationOptions & { readonly output_type: 'uint8' }): Promise<ImageBytes>;
  <const Count extends number = 1>(
    options?: ImageGenerationOptions & {
      readonly batch_size?: Count | undefined;
      /** What is returned: 'image' (default), 'tensor' or 'uint8'. */
      readonly output_type?: 'image' | undefined;
    },
  ): Promise<GeneratedImages<Count>>;
  readonly task: 'unconditional-image-generation';
  readonly model: ModelSession;
  /** May be replaced, as in diffusers; calls under way keep the one they began with. */
  scheduler: Scheduler;
  /** What is known of the model's isotropy, for `iso_lambda`; may be replaced. Undefined where the folder has none. */
  isotropy: TrainedIsotropy | undefined;
  /**
   * Draws `count` images into a folder as PNG files, batch after batch; goes on where an earlier call stopped, which
   * may have been killed. `generation.json` there says how they were made; a call with other settings is refused.
   */
  toFolder(folder: string, options: ImageFolderOptions): Promise<string[]>;
  /** Draws `count` images as bytes, `batch_size` at a time, so that any number of them needs the memory of a batch. */
  batches(options: ImageFolderOptions): AsyncGenerator<ImageBytes>;
  /**
   * Frees the session. A second call does nothing. A call under way, and every later one, rejects with `DisposedError`.
   */
  dispose(): Promise<void>;
}

const callShape = {
  ...samplingShape,
  ...classShape,
  batch_size: numberOption.optional(),
} satisfies Fields<ImageGenerationOptions>;
const generationSchema = z.strictObject({
  ...callShape,
  output_type: z.string('must be a text').optional(),
});
const folderSchema = z.strictObject({ ...callShape, count: numberOption } satisfies Fields<ImageFolderOptions>);

/** Images that go through the model at once: more would only take memory. */
const GROUP = 16;

/**
 * Loads a saved pipeline folder, with an ONNX file or with safetensors alone, or a path that ends in `.onnx`; see
 * `pipeline`.
 */
export async function loadUnconditionalImageGeneration(
  name: string | null | undefined,
  given: ImagePipelineOptions = {},
): Promise<UnconditionalImageGenerationPipeline> {
  const options = checkPipelineArguments(name, given);
  const loaded = name?.toLowerCase().endsWith('.onnx')
    ? await loadImageOnnx(name, options)
    : await loadFolder(name, options, 'images');
  return imagePipeline(loaded, await onnxChecksum(loaded.onnx));
}

/** @param sha256 of the model, with its external data. */
function imagePipeline(
  { model, scheduler, classCount, isotropy }: LoadedPipeline,
  sha256: string,
): UnconditionalImageGenerationPipeline {
  /** All that a call needs, read before it waits for anything. */
  const read = (options: SamplingOptions & ClassOptions, count: number) => ({
    ...readSamplingOptions(options, self, count, 'image'),
    ...readClassOptions(options, model, classCount, count),
  });
  type Call = ReturnType<typeof read>;

  /** Samples first .. first + count - 1 of a call, in model units; `group` of them go through the model at once. */
  const draw = async (call: Call, first: number, count: number, group: number) => {
    const size = elementCount(model.sampleShape);
    const result = new Float32Array(count * size);
    for (let done = 0; done < count; done += group) {
      const batchSize = Math.min(group, count - done);
      const samples = await sample(model, {
        ...call,
        batchSize,
        firstSample: first + done,
        predict: guidedPrediction(model, classCount, call, first + done),
        onProgress: (fraction) => call.onProgress?.((done + fraction * batchSize) / count),
      });
      result.set(samples, done * size);
    }
    return result;
  };
  const drawBytes = async (...drawn: Parameters<typeof draw>) => toImageBytes(await draw(...drawn), model.sampleShape);

  const [modelChannels = 1] = model.sampleShape;
  /** @throws {InvalidArgumentError} where the samples cannot be shown as images. */
  const refuseOtherChannels = () => {
    if ([1, 3, 4].includes(modelChannels)) return;
    throw new InvalidArgumentError(
      `the model has ${modelChannels} channels, but an image has 1, 3 or 4: call it with output_type 'tensor' or 'uint8', or use batches()`,
    );
  };

  const generate = async (given: ImageGenerationOptions & { output_type?: string | undefined } = {}) => {
    model.checkUsable();
    const options = parseOptions(generationSchema, given, 'options for the generation of images');
    const { batch_size: count = 1, output_type = 'image' } = options;
    checkCount('batch_size', count);
    if (!['image', 'tensor', 'uint8'].includes(output_type))
      throw new InvalidArgumentError(`output_type '${output_type}' is unknown: use 'image', 'tensor' or 'uint8'`);
    if (output_type === 'image') refuseOtherChannels();
    const call = read(options, count);
    // A callback sees all images of the batch at once.
    const group = call.callback ? count : GROUP;
    if (output_type === 'uint8') return drawBytes(call, 0, count, group);
    const { RawImage, Tensor } = await import('@huggingface/transformers');
    if (output_type === 'tensor') {
      const scaled = (await draw(call, 0, count, group)).map((x) => Math.min(Math.max((x + 1) / 2, 0), 1));
      return new Tensor('float32', scaled, [count, ...model.sampleShape]);
    }
    const { data, height, width, channels } = await drawBytes(call, 0, count, group);
    const size = height * width * channels;
    const images = Array.from(
      { length: count },
      (_, i) => new RawImage(data.slice(i * size, (i + 1) * size), width, height, channels as 1 | 3 | 4),
    );
    return count === 1 ? images[0] : images;
  };

  const readBatches = (given: ImageFolderOptions) => {
    model.checkUsable();
    const options = parseOptions(folderSchema, given, 'options for the generation of images');
    const { count, batch_size = GROUP } = options;
    checkCount('the number of images', count);
    checkCount('batch_size', batch_size);
    return { call: read(options, count), count, batch_size };
  };
  const toFolder = async (folder: string, options: ImageFolderOptions) => {
    if (typeof folder !== 'string' || folder === '')
      throw new InvalidArgumentError(`the folder for the images must be a path, not ${JSON.stringify(folder)}`);
    refuseOtherChannels();
    const { call, count, batch_size } = readBatches(options);
    const record: GenerationRecord = {
      model_sha256: sha256,
      scheduler: call.scheduler.toConfig(),
      num_inference_steps: call.num_inference_steps,
      seed: listOrNumber(call.seed),
      eta: call.eta,
      ...(call.use_clipped_model_output ? { use_clipped_model_output: true } : {}),
      ...(call.noiseScale ? { noise_scale: [...call.noiseScale] } : {}),
      guidance_scale: call.guidance_scale,
      class_labels: call.class_labels === undefined ? null : listOrNumber(call.class_labels),
    };
    return generateIntoFolder(folder, { ...call, count, batch_size }, record, (first, size, onProgress) =>
      drawBytes({ ...call, onProgress }, first, size, batch_size),
    );
  };
  async function* drawBatches(reading: Promise<ReturnType<typeof readBatches>>) {
    const { call, count, batch_size } = await reading;
    for (let first = 0; first < count; first += batch_size) {
      const size = Math.min(batch_size, count - first);
      const onProgress = (fraction: number) => call.onProgress?.((first + fraction * size) / count);
      yield drawBytes({ ...call, onProgress }, first, size, batch_size);
    }
  }
  const self = Object.assign(generate, {
    task: 'unconditional-image-generation' as const,
    model,
    scheduler,
    isotropy,
    toFolder,
    batches: (options: ImageFolderOptions) => {
      // Options are read now, but a wrong one is reported by the first batch.
      const reading = (async () => readBatches(options))();
      reading.catch(() => undefined);
      return drawBatches(reading);
    },
    dispose: () => model.release(),
  }) as UnconditionalImageGenerationPipeline;
  return self;
}

function listOrNumber(value: number | readonly number[]): number | number[] {
  return typeof value === 'number' ? value : [...value];
}
