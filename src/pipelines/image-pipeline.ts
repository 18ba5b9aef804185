// The pipeline of images, as its users see it.
import type { RawImage, Tensor } from '@huggingface/transformers';
import type { AutoencoderSession } from '../autoencoders/session.ts';
import type { TrainedIsotropy } from '../losses/minimiser.ts';
import type { Scheduler } from '../schedulers/scheduler.ts';
import type { ConditionOptions } from './editing/condition.ts';
import type { ImageEditOptions, ImageInput } from './editing/image-input.ts';
import type { InversionOptions } from './editing/inversion.ts';
import type { InterpolationEnd, LatentOptions, Latents } from './editing/latents.ts';
import type { ClassOptions } from './guidance.ts';
import type { ImageBytes } from './image-output.ts';
import type { ModelSession } from './model-session.ts';
import type { SamplingOptions } from './sampling-options.ts';

export interface ImageGenerationOptions
  extends SamplingOptions,
    ClassOptions,
    ConditionOptions,
    LatentOptions,
    ImageEditOptions {
  /** Images to draw, 1 to 2^28; default 1. */
  readonly batch_size?: number | undefined;
}

/** Options of `interpolate`: those of a call that do not say where it starts. */
export type ImageInterpolationOptions = SamplingOptions &
  ClassOptions &
  ConditionOptions & {
    /** Seed of later steps' noise for an end that is given by its latents, an integer >= 0; default 0. */
    readonly seed?: number | undefined;
  };

export interface ImageInversionOptions extends InversionOptions, ClassOptions, ConditionOptions {}

export interface ImageFolderOptions extends SamplingOptions, ClassOptions, ConditionOptions, ImageEditOptions {
  /** Images to draw in all, or that the folder shall have in the end, 1 to 2^28. */
  readonly count: number;
  /** Images that go through the model at a time, 1 or more; default 16, on a GPU 16 to 128 by their size. */
  readonly batch_size?: number | undefined;
  /**
   * [i, n], only the batches of the i-th (from 1) of n consecutive shares, for n processes or machines. An image is the same
   * whichever share it is in. Default: all.
   */
  readonly share?: readonly [index: number, shares: number] | undefined;
}

/** One image for a `batch_size` of 1, else an array of them. */
export type GeneratedImages<Count extends number> = number extends Count
  ? RawImage | RawImage[]
  : Count extends 1
    ? RawImage
    : RawImage[];

/** What was drawn, and the noise that it was drawn from. */
export interface WithLatents<Images> {
  /** In the form that `output_type` asks for. */
  readonly images: Images;
  /** [batch_size, ...shape of a sample], before the scheduler scales it; for the option `latents`. */
  readonly latents: Tensor;
}

/**
 * Draws images from a diffusion model, as diffusers' `DDPMPipeline` does. Options are read when it is called: what the
 * caller changes later has no effect.
 *
 * With `output_type` 'image' (default) the result is one `RawImage` for a `batch_size` of 1, else an array of them;
 * with 'tensor' a transformers.js `Tensor` [batch_size, channels, height, width] in [0, 1]; with 'uint8' bytes,
 * [batch_size, height, width, channels]. With 'latent', for a pipeline of latent diffusion, it is a `Tensor` of what the U-Net
 * drew, [batch_size, ...shape of a sample], as `decode` takes it. A model whose images do not have 1, 3 or 4 channels gives no images and no PNG
 * files: 'tensor', 'uint8' and `batches` are for it.
 *
 * @throws {InvalidArgumentError} when an option is wrong or unknown.
 * @throws {NonFiniteSampleError} when the model or the scheduler gives NaN or infinity, with the step.
 * @throws {DisposedError} after `dispose()`.
 * @throws `signal.reason` when the signal aborts.
 * @example
 * const generate = await pipeline('unconditional-image-generation', './runs/digits/pipeline');
 * const image = await generate({ scheduler: 'dpm++', num_inference_steps: 20, seed: 7 });
 * await image.save('digit.png');
 */
export interface UnconditionalImageGenerationPipeline {
  (
    options: ImageGenerationOptions & { readonly return_latents: true; readonly output_type: 'tensor' | 'latent' },
  ): Promise<WithLatents<Tensor>>;
  (
    options: ImageGenerationOptions & { readonly return_latents: true; readonly output_type: 'uint8' },
  ): Promise<WithLatents<ImageBytes>>;
  <const Count extends number = 1>(
    options: ImageGenerationOptions & {
      readonly batch_size?: Count | undefined;
      readonly output_type?: 'image' | undefined;
      /** Whether the noise that the images were drawn from is returned beside them; default false. */
      readonly return_latents: true;
    },
  ): Promise<WithLatents<GeneratedImages<Count>>>;
  (options: ImageGenerationOptions & { readonly output_type: 'tensor' | 'latent' }): Promise<Tensor>;
  (options: ImageGenerationOptions & { readonly output_type: 'uint8' }): Promise<ImageBytes>;
  <const Count extends number = 1>(
    options?: ImageGenerationOptions & {
      readonly batch_size?: Count | undefined;
      /** What is returned: 'image' (default), 'tensor', 'uint8', or of latent diffusion 'latent'. */
      readonly output_type?: 'image' | undefined;
    },
  ): Promise<GeneratedImages<Count>>;
  /** The name of the task. */
  readonly task: 'unconditional-image-generation';
  /** The model, which can be asked for its output at a timestep. */
  readonly model: ModelSession;
  /** What decodes the latents that the model draws; undefined where it draws images themselves. */
  readonly autoencoder: AutoencoderSession | undefined;
  /** [channels, height, width] of an image. */
  readonly imageShape: readonly number[];
  /** May be replaced, as in diffusers; calls under way keep the one they began with. */
  scheduler: Scheduler;
  /** What is known of the model's isotropy, for `iso_lambda`; may be replaced. Undefined where the folder has none. */
  isotropy: TrainedIsotropy | undefined;
  /**
   * Draws `count` images into a folder as PNG files, batch after batch; goes on where an earlier call stopped, which
   * may have been killed. `generation.json` there says how they were made; a call with other settings is refused.
   *
   * @returns the paths of the images, or of those of the share.
   */
  toFolder(folder: string, options: ImageFolderOptions): Promise<string[]>;
  /** Draws `count` images as bytes, `batch_size` at a time, so that any number of them needs the memory of a batch. */
  batches(options: ImageFolderOptions): AsyncGenerator<ImageBytes>;
  /**
   * Draws `count` images, 2 or more, from noise at even distances between two ends: a seed, or the latents of one image. The
   * first and the last are the images of the ends, bit for bit.
   */
  interpolate(
    from: InterpolationEnd,
    to: InterpolationEnd,
    count: number,
    options?: ImageInterpolationOptions,
  ): Promise<RawImage[]>;
  /**
   * The latents, [count, channels, height, width], from which DDIM without clipping draws these images again, the more nearly
   * the more steps it takes (Song et al. 2021). Images are brought to the model's size as for training.
   */
  invert(image: ImageInput | readonly ImageInput[], options?: ImageInversionOptions): Promise<Tensor>;
  /**
   * The images of samples in model units, such as `callback_on_step_end` is given and `output_type` 'latent' returns. Of latent
   * diffusion the autoencoder decodes them.
   *
   * @param latents [count, ...shape of a sample].
   */
  decode(latents: Latents): Promise<ImageBytes>;
  /**
   * Frees the session. A second call does nothing. A call under way, and every later one, rejects with `DisposedError`.
   */
  dispose(): Promise<void>;
}
