import type { RawImage, Tensor } from '@huggingface/transformers';
import { elementCount } from '../graph/types.ts';
import type { Scheduler } from '../schedulers/index.ts';
import { checkClassOptions, guidedPrediction } from './class-guidance.ts';
import { type ImageBytes, toImageBytes } from './image-bytes.ts';
import { generateIntoFolder, type ImageFolderOptions } from './image-folder.ts';
import { type ImageModel, type ImagePipelineOptions, loadImageModel } from './image-model.ts';
import { checkCount, checkOptions, checkOutputType, type ImageGenerationOptions } from './image-options.ts';
import type { ModelSession } from './model-session.ts';
import { samplingSchedule } from './sampling-options.ts';

/**
 * Draws images from a diffusion model, as diffusers' `DDPMPipeline` does.
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
  scheduler: Scheduler;
  /**
   * Draws `count` images into a folder as PNG files, batch after batch; goes on where an earlier call stopped, which
   * may have been killed. `generation.json` there says how they were made; a call with other settings is refused.
   */
  toFolder(folder: string, options: ImageFolderOptions): Promise<string[]>;
  /** Draws `count` images as bytes, `batch_size` at a time, so that any number of them needs the memory of a batch. */
  batches(options: ImageFolderOptions): AsyncGenerator<ImageBytes>;
  /** Frees the sessions; the pipeline cannot be used afterwards. */
  dispose(): Promise<void>;
}

/** Images that go through the model at once: more would only take memory. */
const GROUP = 16;

/**
 * Loads a saved pipeline folder, with an ONNX file or with safetensors alone, or a path that ends in `.onnx`; see
 * `pipeline`.
 */
export async function loadUnconditionalImageGeneration(
  model: string | null | undefined,
  options: ImagePipelineOptions = {},
): Promise<UnconditionalImageGenerationPipeline> {
  return imagePipeline(await loadImageModel(model, options));
}

function imagePipeline({
  process,
  scheduler,
  classCount,
  sha256,
}: ImageModel): UnconditionalImageGenerationPipeline {
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
  const settingsOf = ({ seed = 0, eta, ...given }: ImageGenerationOptions) => ({
    ...samplingSchedule(given, self.scheduler),
    seed,
    eta,
  });
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
    active.clone().setTimesteps(settings.num_inference_steps);
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
