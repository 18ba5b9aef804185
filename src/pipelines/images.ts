import type { RawImage } from '@huggingface/transformers';
import { InvalidArgumentError } from '../errors.ts';
import { elementCount } from '../graph/types.ts';
import type { PipelineSource } from '../hub/pipeline-source.ts';
import { type Fields, numberOption, parseOptions } from '../options.ts';
import type { ConcreteDevice } from '../runtime/device.ts';
import * as z from '../zod.ts';
import { type Condition, type ConditionOptions, conditionOptionShape, readCondition } from './editing/condition.ts';
import {
  type ImageEditOptions,
  type ImageInput,
  imageEditShape,
  imagesInput,
  readImageEdit,
  readImages,
} from './editing/image-input.ts';
import { inversionCall, inversionShape, invertedFrom } from './editing/inversion.ts';
import {
  type InterpolationEnd,
  interpolation,
  type Latents,
  latentShape,
  noiseStreams,
  readLatents,
  startNoise,
} from './editing/latents.ts';
import { DenoisingLoop } from './fused/loop.ts';
import {
  type ClassCall,
  type ClassOptions,
  classShape,
  guidanceOf,
  guidedPrediction,
  readClassOptions,
} from './guidance.ts';
import { batchesOfShare, generateIntoFolder, generationRecord, toImageBytes } from './image-output.ts';
import type {
  ImageFolderOptions,
  ImageGenerationOptions,
  ImageInterpolationOptions,
  ImageInversionOptions,
  UnconditionalImageGenerationPipeline,
} from './image-pipeline.ts';
import { type ImageSpace, openImageSpace } from './image-space.ts';
import {
  checkPipelineArguments,
  type ImagePipelineOptions,
  type LoadedPipeline,
  loadFolder,
  loadImageOnnx,
  withLocalModel,
} from './load.ts';
import { sample } from './sample.ts';
import {
  checkCount,
  readSamplingOptions,
  type SamplingCall,
  type SamplingOptions,
  samplingShape,
} from './sampling-options.ts';

const drawingShape = { ...samplingShape, ...classShape, ...conditionOptionShape } satisfies Fields<
  SamplingOptions & ClassOptions & ConditionOptions
>;
const callShape = { ...drawingShape, ...imageEditShape, batch_size: z.optional(numberOption) };
const generationSchema = z.strictObject({
  ...callShape,
  ...latentShape,
  output_type: z.optional(z.string('must be a text')),
  return_latents: z.optional(z.boolean()),
} satisfies Fields<ImageGenerationOptions & { output_type?: string; return_latents?: boolean }>);
const folderSchema = z.strictObject({
  ...callShape,
  count: numberOption,
  share: z.optional(
    z
      .readonly(z.tuple([z.int().check(z.gte(1)), z.int().check(z.gte(1))]))
      .check(z.refine(([index, shares]) => index <= shares, 'the share must be one of 1 to the number of shares')),
  ),
} satisfies Fields<ImageFolderOptions>);
const interpolationSchema = z.strictObject({ ...drawingShape, seed: z.optional(numberOption) });
const inversionSchema = z.strictObject({
  ...inversionShape,
  ...classShape,
  ...conditionOptionShape,
} satisfies Fields<ImageInversionOptions>);

/** Images that go through the model at once: on the cpu more would only take memory, a GPU has more to do at a time. */
function groupOn(device: ConcreteDevice, sampleSize: number): number {
  return device === 'cpu' ? 16 : Math.min(128, Math.max(16, Math.floor(MAX_GROUP_VALUES / sampleSize)));
}
/** Of 128 images of 3 x 32 x 32, or 42 of 3 x 64 x 64, for which the U-Net of DDPM needs 2 GiB. */
const MAX_GROUP_VALUES = 2 ** 19;

/**
 * Loads a saved pipeline folder, with an ONNX file or with safetensors alone, or a path that ends in `.onnx`; see
 * `pipeline`.
 */
export async function loadUnconditionalImageGeneration(
  source: string | PipelineSource | null | undefined,
  given: ImagePipelineOptions = {},
): Promise<UnconditionalImageGenerationPipeline> {
  const options = checkPipelineArguments(source, given);
  return withLocalModel(source, options, 'images', async (name) => {
    const loaded = name?.toLowerCase().endsWith('.onnx')
      ? await loadImageOnnx(name, options)
      : await loadFolder(name, options, 'images');
    const loop = await DenoisingLoop.of(loaded.graph ?? loaded.onnx, loaded.model, loaded.dtype);
    const space = await openImageSpace(loaded, options);
    // The folder of a source that was unpacked is removed, and with it what the checksum is made of.
    if (name !== source) await loaded.checksum();
    return imagePipeline(loaded, loop, space);
  });
}

function imagePipeline(
  { model, checksum, scheduler, classCount, isotropy }: LoadedPipeline,
  loop: DenoisingLoop | undefined,
  space: ImageSpace,
): UnconditionalImageGenerationPipeline {
  const { sampleShape } = model;
  const { imageShape, autoencoder } = space;
  const group = groupOn(model.device, elementCount(sampleShape));
  /** All that a call needs but the images it is given, read before it waits for anything. */
  const read = (options: SamplingOptions & ClassOptions & ConditionOptions & ImageEditOptions, count: number) => {
    const call = {
      ...readSamplingOptions(options, self, count, 'image'),
      ...readClassOptions(options, model, classCount, count),
    };
    const openEdit = readImageEdit(options, count, imageShape);
    const openCondition = readCondition(options, count, model.conditionShape);
    const open = async (): Promise<Call> => {
      const edit = await openEdit?.(call.signal);
      return {
        ...call,
        edit: edit && (await space.encodeEdit(edit, call.signal)),
        condition: await openCondition?.(call.signal),
      };
    };
    return open;
  };
  type Call = SamplingCall & ClassCall & { readonly condition: Condition | undefined };

  /** Samples first .. first + count - 1 of a call, in model units; `group` of them go through the model at once. */
  const draw = async (call: Call, first: number, count: number, group: number) => {
    const size = elementCount(sampleShape);
    const result = new Float32Array(count * size);
    for (let done = 0; done < count; done += group) {
      const batchSize = Math.min(group, count - done);
      const guidance = guidanceOf(model, classCount, call, first + done, batchSize);
      const condition = call.condition?.rows(first + done, batchSize);
      const run = {
        ...call,
        batchSize,
        firstSample: first + done,
        guidance,
        predict: guidedPrediction(model, guidance, condition),
        onProgress: (fraction: number) => call.onProgress?.((done + fraction * batchSize) / count),
      };
      const samples = (await loop?.tryRun(run)) ?? (await sample(model, run));
      result.set(samples, done * size);
    }
    return result;
  };
  /** As `draw`, but images in [-1, 1]. */
  const drawDecoded = async (...drawn: Parameters<typeof draw>) => space.decode(await draw(...drawn), drawn[0].signal);
  const drawBytes = async (...drawn: Parameters<typeof draw>) => toImageBytes(await drawDecoded(...drawn), imageShape);

  const [imageChannels = 1] = imageShape;
  /** @throws {InvalidArgumentError} where the samples cannot be shown as images. */
  const refuseOtherChannels = () => {
    if ([1, 3, 4].includes(imageChannels)) return;
    throw new InvalidArgumentError(
      `the model has ${imageChannels} channels, but an image has 1, 3 or 4: call it with output_type 'tensor' or 'uint8', or use batches()`,
    );
  };

  /** A callback sees all images of the batch at once. */
  const groupOf = (call: Call, count: number) => (call.callback ? count : group);
  const drawImages = async (call: Call, count: number): Promise<RawImage[]> => {
    const { RawImage } = await import('@huggingface/transformers');
    const { data, height, width, channels } = await drawBytes(call, 0, count, groupOf(call, count));
    const size = height * width * channels;
    return Array.from(
      { length: count },
      (_, i) => new RawImage(data.slice(i * size, (i + 1) * size), width, height, channels as 1 | 3 | 4),
    );
  };
  const asTensor = async (values: Float32Array, count: number, shape = sampleShape) => {
    const { Tensor } = await import('@huggingface/transformers');
    return new Tensor('float32', values, [count, ...shape]);
  };
  const drawAs = async (output_type: string, call: Call, count: number) => {
    const atOnce = groupOf(call, count);
    if (output_type === 'uint8') return drawBytes(call, 0, count, atOnce);
    if (output_type === 'latent') return asTensor(await draw(call, 0, count, atOnce), count);
    if (output_type === 'tensor') {
      const scaled = (await drawDecoded(call, 0, count, atOnce)).map((x) => Math.min(Math.max((x + 1) / 2, 0), 1));
      return asTensor(scaled, count, imageShape);
    }
    const images = await drawImages(call, count);
    return count === 1 ? images[0] : images;
  };

  const generate = async (
    given: ImageGenerationOptions & { output_type?: string | undefined; return_latents?: boolean | undefined } = {},
  ) => {
    model.checkUsable();
    const options = parseOptions(generationSchema, given, 'options for the generation of images');
    const { batch_size: count = 1, output_type = 'image', return_latents } = options;
    checkCount('batch_size', count);
    checkOutputType(output_type, space);
    if (output_type === 'image') refuseOtherChannels();
    const open = read(options, count);
    const latents = options.latents && readLatents(options.latents, count, sampleShape);
    const call = { ...(await open()), latents };
    const images = await drawAs(output_type, call, count);
    if (!return_latents) return images;
    const started = startNoise(call, noiseStreams(call, count, elementCount(sampleShape)));
    return { images, latents: await asTensor(started, count) };
  };

  const interpolate = async (
    from: InterpolationEnd,
    to: InterpolationEnd,
    count: number,
    given: ImageInterpolationOptions = {},
  ) => {
    model.checkUsable();
    const options = parseOptions(interpolationSchema, given, 'options for the interpolation of images');
    refuseOtherChannels();
    const between = interpolation(from, to, count, options.seed ?? 0, sampleShape);
    return drawImages({ ...(await read(options, count)()), ...between }, count);
  };

  const invert = async (image: ImageInput | readonly ImageInput[], given: ImageInversionOptions = {}) => {
    model.checkUsable();
    const images = readImages(parseOptions(imagesInput, image, 'image to invert'), imageShape);
    const { count } = images;
    const options = parseOptions(inversionSchema, given, 'options for the inversion of images');
    const call = { ...inversionCall(options, self), ...readClassOptions(options, model, classCount, count) };
    const condition = await readCondition(options, count, model.conditionShape)?.(call.signal);
    const edit = invertedFrom(await space.encode(await images.read(call.signal), call.signal));
    return asTensor(await draw({ ...call, edit, condition }, 0, count, group), count);
  };

  const decode = async (latents: Latents) => {
    model.checkUsable();
    const values = 'dims' in latents ? latents.data : latents;
    const count = values.length / elementCount(sampleShape);
    checkCount('the number of latents', count);
    return toImageBytes(await space.decode(readLatents(latents, count, sampleShape)), imageShape);
  };

  const readBatches = (given: ImageFolderOptions) => {
    model.checkUsable();
    const options = parseOptions(folderSchema, given, 'options for the generation of images');
    const { count, batch_size = group, share } = options;
    checkCount('the number of images', count);
    checkCount('batch_size', batch_size);
    const { class_labels = null } = options;
    const labels = typeof class_labels === 'object' ? (class_labels?.flat() ?? null) : class_labels;
    return { open: read(options, count), count, batch_size, share, labels };
  };
  const toFolder = async (folder: string, options: ImageFolderOptions) => {
    if (typeof folder !== 'string' || folder === '')
      throw new InvalidArgumentError(`the folder for the images must be a path, not ${JSON.stringify(folder)}`);
    refuseOtherChannels();
    const { open, count, batch_size, share, labels } = readBatches(options);
    const call = await open();
    const record = generationRecord(call, labels, { model: await checksum(), autoencoder: autoencoder?.sha256 });
    return generateIntoFolder(folder, { ...call, count, batch_size, share }, record, (first, size, onProgress) =>
      drawBytes({ ...call, onProgress }, first, size, batch_size),
    );
  };
  async function* drawBatches(reading: Promise<ReturnType<typeof readBatches>>) {
    const { open, count, batch_size, share } = await reading;
    const call = await open();
    const [begin, end] = batchesOfShare(count, batch_size, share);
    for (let first = begin; first < end; first += batch_size) {
      const size = Math.min(batch_size, end - first);
      const onProgress = (fraction: number) => call.onProgress?.((first - begin + fraction * size) / (end - begin));
      yield drawBytes({ ...call, onProgress }, first, size, batch_size);
    }
  }
  const self = Object.assign(generate, {
    task: 'unconditional-image-generation' as const,
    model,
    autoencoder,
    imageShape,
    scheduler,
    isotropy,
    decode,
    interpolate,
    invert,
    toFolder,
    batches: (options: ImageFolderOptions) => {
      // Options are read now, but a wrong one is reported by the first batch.
      const reading = (async () => readBatches(options))();
      reading.catch(() => undefined);
      return drawBatches(reading);
    },
    dispose: async () => {
      await model.release();
      await loop?.release();
      await autoencoder?.dispose();
    },
  }) as UnconditionalImageGenerationPipeline;
  return self;
}

/** @throws {InvalidArgumentError} when it is unknown, or is for models of latents. */
function checkOutputType(output_type: string, { autoencoder }: ImageSpace): void {
  const known = ['image', 'tensor', 'uint8', 'latent'];
  if (!known.includes(output_type))
    throw new InvalidArgumentError(
      `output_type '${output_type}' is unknown: use ${known.map((name) => `'${name}'`).join(', ')}`,
    );
  if (output_type === 'latent' && !autoencoder)
    throw new InvalidArgumentError(
      "output_type 'latent' is for pipelines of latent diffusion, and this model draws images themselves: use 'tensor'",
    );
}
