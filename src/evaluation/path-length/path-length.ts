import { InvalidArgumentError } from '../../errors.ts';
import { elementCount } from '../../graph/types.ts';
import { meanAndStd } from '../../metrics/metric.ts';
import { functionOption, numberOrNumbersOption, parseOptions, signalOption } from '../../options.ts';
import type { ImageFolderOptions, UnconditionalImageGenerationPipeline } from '../../pipelines/image-pipeline.ts';
import { loadUnconditionalImageGeneration } from '../../pipelines/images.ts';
import { startedScheduler } from '../../pipelines/sampling-options.ts';
import { SampleStreams } from '../../random/sample-streams.ts';
import { DEVICES, type Device, deviceIdOption, resolveDevice } from '../../runtime/device.ts';
import { asScheduler } from '../../schedulers/registry.ts';
import * as z from '../../zod.ts';
import { fetchPublishedExtractor } from '../extractors/fetch-extractor.ts';
import { extractorsFolder } from '../extractors/published-extractors.ts';
import type { ResolveExtractorOptions } from '../extractors/registry.ts';
import { identify } from '../inputs.ts';
import { DEFAULT_SAMPLES } from '../options.ts';
import { type ImagePairs, Lpips, readHeads, readVgg16 } from './lpips.ts';
import { batchInterpolation, INTERPOLATIONS, type InterpolationName, withoutExtremes } from './path-steps.ts';

const percentile = z.nullable(z.number().check(z.gt(0), z.lt(100)));

const settingsSchema = z.strictObject({
  ppl_lpips_weights: z
    .string('name the file of the heads of LPIPS')
    .check(z.minLength(1, 'name the file of the heads of LPIPS')),
  ppl_epsilon: z._default(z.number().check(z.positive()), 1e-4),
  ppl_reduction: z._default(z.enum(['mean', 'none']), 'mean'),
  ppl_sample_similarity_resize: z._default(z.int().check(z.gte(16), z.lte(4096)), 64),
  ppl_sample_similarity_dtype: z._default(z.enum(['uint8', 'float32']), 'uint8'),
  ppl_discard_percentile_lower: z._default(percentile, 1),
  ppl_discard_percentile_higher: z._default(percentile, 99),
  ppl_z_interp_mode: z._default(z.enum(INTERPOLATIONS), 'lerp'),
  num_samples: z._default(z.int().check(z.gte(1), z.lte(2 ** 28)), DEFAULT_SAMPLES),
  batch_size: z._default(z.int().check(z.gte(1), z.lte(65_536)), 32),
  seed: z._default(z.int().check(z.gte(0)), 0),
  device: z._default(z.enum(DEVICES), 'auto'),
  device_id: z.optional(deviceIdOption),
  extractor_options: z.optional(z.custom<PathLengthOptions['extractor_options']>()),
  generation: z.optional(
    z.pipe(
      z.looseObject({ class_labels: z.optional(numberOrNumbersOption) }),
      z.transform((given) => given as NonNullable<PathLengthOptions['generation']>),
    ),
  ),
  on_progress: z.optional(functionOption<(fraction: number) => void>()),
  signal: z.optional(signalOption),
});

/** The options of `perceptualPathLength`. Those that begin with `ppl_` are named as in torch-fidelity. */
export interface PathLengthOptions {
  /**
   * Path of the heads of LPIPS on VGG16: torch-fidelity's `weights-vgg16-lpips.pth`, or its tensors in a .safetensors file. It
   * has to be given; it is not fetched. The weights of VGG16 are those of the extractor 'vgg16'.
   */
  readonly ppl_lpips_weights: string;
  /** Length of the step between the two latents of a pair, as a part of the way to a third one; above 0. Default 1e-4. */
  readonly ppl_epsilon?: number | undefined;
  /** 'none' also returns the distance of every pair that is not discarded. Default 'mean'. */
  readonly ppl_reduction?: 'mean' | 'none' | undefined;
  /** Side in pixels that images are resized to for LPIPS, from 16 to 4,096. Default 64. */
  readonly ppl_sample_similarity_resize?: number | undefined;
  /**
   * What is compared: images rounded to bytes, or as the model gives them. Default 'uint8', as in torch-fidelity. A step of
   * 1e-4 changes few bytes, and each of those by a whole one: 'float32' measures the path itself.
   */
  readonly ppl_sample_similarity_dtype?: 'uint8' | 'float32' | undefined;
  /** Distances below this percentile are discarded, between 0 and 100; null discards none. Default 1. */
  readonly ppl_discard_percentile_lower?: number | null | undefined;
  /** Distances above this percentile are discarded, between 0 and 100; null discards none. Default 99. */
  readonly ppl_discard_percentile_higher?: number | null | undefined;
  /**
   * How the step is made: 'lerp' on a line, 'slerp_any' on a great circle. 'slerp_unit' is refused: the noise of a diffusion
   * model does not have the length 1. Default 'lerp'.
   */
  readonly ppl_z_interp_mode?: InterpolationName | undefined;
  /** Pairs of images, from 1 to 2^28. Default 10,000. */
  readonly num_samples?: number | undefined;
  /** Pairs at a time, from 1 to 65,536. Default 32. */
  readonly batch_size?: number | undefined;
  /** Seed of the latents, an integer of at least 0. Pair i depends on the seed and on i alone. Default 0. */
  readonly seed?: number | undefined;
  /** Device of LPIPS, and of a pipeline that is loaded by name. Default 'auto'. */
  readonly device?: Device | undefined;
  /** Which GPU the device `cuda` is, from 0; default: as for `pipeline()`. */
  readonly device_id?: number | undefined;
  /** Where VGG16 is looked up, and how it is fetched. Default: as `resolveExtractor` does. */
  readonly extractor_options?:
    | Pick<ResolveExtractorOptions, 'extractors_dir' | 'local_files_only' | 'progress_callback' | 'fetch'>
    | undefined;
  /**
   * How the pipeline draws. The scheduler must not add noise. `class_labels` is one class, or a list with one for each pair.
   * Default: the pipeline's own defaults.
   */
  readonly generation?:
    | (Pick<
        ImageFolderOptions,
        'num_inference_steps' | 'scheduler' | 'iso_lambda' | 'noise_scale' | 'guidance_scale'
      > & {
        /** One class, or one for each pair; default: the pipeline's. */
        readonly class_labels?: number | readonly number[] | undefined;
      })
    | undefined;
  /** Called with the finished fraction, 0 to 1. Default: none. */
  readonly on_progress?: ((fraction: number) => void) | undefined;
  /** Ends the work with the signal's reason. Default: none. */
  readonly signal?: AbortSignal | undefined;
}

/** The outcome of `perceptualPathLength`, plain JSON. */
export interface PathLengthReport {
  /** Mean of the distances that were not discarded, divided by epsilon². */
  readonly perceptual_path_length_mean: number;
  /** Their standard deviation. The divisor is the number of distances, as in torch-fidelity. */
  readonly perceptual_path_length_std: number;
  /** The distances that were not discarded, divided by epsilon², in the order of the pairs; with `ppl_reduction` 'none'. */
  readonly perceptual_path_length_raw?: readonly number[] | undefined;
  /** SHA-256 in hex of the file of `ppl_lpips_weights`. */
  readonly lpips_sha256: string;
  /** The settings that the values depend on; a percentile that is null is left out. */
  readonly settings: Readonly<Record<string, number | string>>;
}

/**
 * Perceptual path length (Karras et al. 2019) as torch-fidelity measures it: the LPIPS distance of the images of two latents that
 * lie a step of `ppl_epsilon` apart, divided by epsilon². The latent is the noise that a sampler without noise starts from.
 *
 * @param pipeline a loaded one, which stays the caller's, or what names one: a folder, a Hub id, an .onnx file.
 * @throws {InvalidArgumentError} for wrong options, a pipeline of points, or a scheduler that adds noise.
 * @throws {ExtractorNotFoundError} when a file of weights is missing. @throws {ExtractorWeightsError} when it has other tensors.
 *
 * @example
 * const { perceptual_path_length_mean } = await perceptualPathLength('runs/digits/pipeline', {
 *   ppl_lpips_weights: 'weights-vgg16-lpips.pth', generation: { scheduler: 'ddim', num_inference_steps: 50 },
 * });
 */
export async function perceptualPathLength(
  pipeline: string | UnconditionalImageGenerationPipeline,
  options: PathLengthOptions,
): Promise<PathLengthReport> {
  const settings = parseOptions(settingsSchema, options, 'options for the perceptual path length');
  checkSettings(settings);
  const input = await identify('fake', pipeline);
  if (input.kind !== 'image-pipeline')
    throw new InvalidArgumentError(
      `the perceptual path length is of a pipeline of images, but ${typeof pipeline === 'string' ? `'${pipeline}'` : 'this'} is ${input.kind}`,
    );
  const heads = await readHeads(settings.ppl_lpips_weights);
  const { source } = input;
  const { device, device_id } = settings;
  const draw =
    typeof source === 'string' ? await loadUnconditionalImageGeneration(source, { device, device_id }) : source;
  try {
    refuseNoise(draw, settings);
    refuseCondition(draw);
    const [channels = 1, height = 1, width = 1] = draw.imageShape;
    if (channels !== 1 && channels !== 3)
      throw new InvalidArgumentError(`the pipeline draws samples of ${channels} channels, but LPIPS needs 1 or 3`);
    const { extractor_options, signal } = settings;
    const folder = extractor_options?.extractors_dir ?? extractorsFolder();
    const vgg16 = await readVgg16(await fetchPublishedExtractor('vgg16', folder, { ...extractor_options, signal }));
    const lpips = await Lpips.create(
      { height, width, side: settings.ppl_sample_similarity_resize },
      (name) => (name.startsWith('lin') ? heads.weights(name) : vgg16(name)),
      await resolveDevice(device, { device_id }),
    );
    try {
      return { ...(await measured(draw, lpips, settings)), lpips_sha256: heads.sha256, settings: reported(settings) };
    } finally {
      await lpips.dispose();
    }
  } finally {
    if (typeof source === 'string') await draw.dispose();
  }
}

type PathLengthSettings = z.output<typeof settingsSchema>;

function checkSettings({
  ppl_discard_percentile_lower: lower,
  ppl_discard_percentile_higher: higher,
  ppl_z_interp_mode,
  num_samples,
  generation,
}: PathLengthSettings): void {
  if (lower !== null && higher !== null && lower >= higher)
    throw new InvalidArgumentError(
      `ppl_discard_percentile_lower is ${lower}, but must be below ppl_discard_percentile_higher, ${higher}`,
    );
  if (ppl_z_interp_mode === 'slerp_unit')
    throw new InvalidArgumentError(
      "ppl_z_interp_mode 'slerp_unit' is for latents of the length 1, and the noise of a diffusion model is standard normal: use 'slerp_any'",
    );
  const labels = generation?.class_labels;
  if (typeof labels === 'object' && labels.length !== num_samples)
    throw new InvalidArgumentError(
      `class_labels is a list of ${labels.length}, but there are ${num_samples} pairs: give one class, or one for each pair`,
    );
}

/** @throws {InvalidArgumentError} when the latent alone does not say what the image is. */
function refuseNoise(
  { scheduler: own }: UnconditionalImageGenerationPipeline,
  { generation }: PathLengthSettings,
): void {
  const given = generation?.scheduler;
  const scheduler = given === undefined ? own : asScheduler(given, own);
  const started = startedScheduler({
    scheduler,
    num_inference_steps: generation?.num_inference_steps ?? scheduler.usualSteps,
  });
  if (!started.timesteps.some((timestep) => started.needsNoise(timestep, 0))) return;
  throw new InvalidArgumentError(
    `${started.className} adds noise at its steps, and the perceptual path length needs images that depend on the latent alone: use the scheduler 'ddim', or a solver without noise`,
  );
}

/** @throws {InvalidArgumentError} when an image depends on more than the latent. */
function refuseCondition({ model }: UnconditionalImageGenerationPipeline): void {
  if (!model.conditionShape) return;
  throw new InvalidArgumentError(
    'the model takes an image beside the sample, and the perceptual path length needs images that depend on the latent alone: it is not measured of such a model',
  );
}

async function measured(draw: UnconditionalImageGenerationPipeline, lpips: Lpips, settings: PathLengthSettings) {
  const { num_samples: count, batch_size, ppl_epsilon: epsilon, signal, on_progress } = settings;
  const distances: number[] = [];
  for (let first = 0; first < count; first += batch_size) {
    signal?.throwIfAborted();
    on_progress?.(first / count);
    const pairs = await drawnPairs(draw, first, Math.min(batch_size, count - first), settings);
    for (const distance of await lpips.distances(pairs)) distances.push(distance / epsilon ** 2);
  }
  on_progress?.(1);
  const { ppl_discard_percentile_lower: lower, ppl_discard_percentile_higher: higher } = settings;
  const kept = withoutExtremes(distances, lower, higher);
  const { mean, std = 0 } = meanAndStd(kept);
  return {
    perceptual_path_length_mean: mean,
    perceptual_path_length_std: std,
    ...(settings.ppl_reduction === 'none' ? { perceptual_path_length_raw: kept } : {}),
  };
}

/** Pairs `first` .. `first + count - 1`. */
async function drawnPairs(
  draw: UnconditionalImageGenerationPipeline,
  first: number,
  count: number,
  settings: PathLengthSettings,
): Promise<ImagePairs> {
  const { seed, ppl_epsilon, ppl_z_interp_mode, generation, signal, ppl_sample_similarity_dtype: dtype } = settings;
  const size = elementCount(draw.model.sampleShape);
  const streams = new SampleStreams(seed, count, size, first);
  const start = streams.fillNormal(new Float32Array(count * size));
  const end = streams.fillNormal(new Float32Array(count * size));
  const latents = new Float32Array(2 * count * size);
  latents.set(start);
  latents.set(batchInterpolation(start, end, ppl_epsilon, size, ppl_z_interp_mode), count * size);
  const labels = generation?.class_labels;
  const ofPairs = typeof labels === 'object' ? labels.slice(first, first + count) : undefined;
  const { data } = await draw({
    ...generation,
    class_labels: ofPairs ? [...ofPairs, ...ofPairs] : labels,
    latents,
    batch_size: 2 * count,
    output_type: 'tensor',
    signal,
  });
  const images = colourImages(data as Float32Array, draw.imageShape, dtype);
  const half = images.length / 2;
  return { first: images.subarray(0, half), second: images.subarray(half), count };
}

/** From [0, 1] to RGB in [-1, 1]. Grey is repeated in all channels. */
function colourImages(
  pixels: Float32Array,
  [channels = 1, height = 1, width = 1]: readonly number[],
  dtype: 'uint8' | 'float32',
): Float32Array {
  const plane = height * width;
  const images = new Float32Array((pixels.length / channels) * 3);
  for (let at = 0; at < images.length; at++) {
    const colour = Math.floor(at / plane);
    const source = channels === 3 ? colour : Math.floor(colour / 3);
    const unit = pixels[source * plane + (at % plane)] as number;
    images[at] = 2 * (dtype === 'uint8' ? Math.round(unit * 255) / 255 : unit) - 1;
  }
  return images;
}

function reported(settings: PathLengthSettings): Record<string, number | string> {
  const { num_samples, seed } = settings;
  const named: Record<string, number | string> = { num_samples, seed };
  for (const [name, value] of Object.entries(settings))
    if (name.startsWith('ppl_') && (typeof value === 'number' || typeof value === 'string')) named[name] = value;
  return named;
}
