import { type Autoencoder, latentSize } from '../../autoencoders/autoencoder.ts';
import type { Value } from '../../graph/graph.ts';
import { add, cast, exp, mul } from '../../graph/ops/elementwise.ts';
import { scalarLike } from '../../graph/registry.ts';
import { elementCount } from '../../graph/types.ts';
import type { AutoencoderLoss } from '../../losses/autoencoder.ts';
import type { LossResult } from '../../losses/index.ts';
import type { ForwardContext } from '../../nn/context.ts';
import type { ParameterSpec } from '../../nn/parameters.ts';
import type { Objective, Pass, SampleType } from './objective.ts';

/** A batch of images, and for an encoder that gives distributions the noise of the latents, [batch, ...]. */
type ImageBatch = { readonly clean: Value; readonly noise?: Value | undefined };

/**
 * The loss of an autoencoder: images are encoded and decoded. Where the encoder gives distributions, latents are drawn from
 * them (the reparametrisation of Kingma & Welling 2014); where there is a codebook, they are quantised, and the gradient
 * passes straight through (van den Oord et al. 2017).
 */
export class AutoencoderObjective implements Objective<ImageBatch> {
  readonly inputs: Readonly<Record<string, SampleType | undefined>>;
  /** Normal numbers that each image takes. */
  readonly noiseSize: number;

  /**
   * @param imageShape [channels, height, width] of the images.
   * @throws {InvalidArgumentError} when the autoencoder cannot halve the images as often as it does.
   */
  constructor(
    private readonly autoencoder: Autoencoder,
    private readonly minimised: AutoencoderLoss,
    imageShape: readonly number[],
  ) {
    const [, height = 0, width = 0] = imageShape;
    const latentShape = [autoencoder.latentChannels, ...latentSize(autoencoder, [height, width])];
    this.noiseSize = autoencoder.kind === 'kl' ? elementCount(latentShape) : 0;
    this.inputs = {
      clean: { dtype: 'float32', shape: imageShape },
      noise: autoencoder.kind === 'kl' ? { dtype: 'float32', shape: latentShape } : undefined,
    };
  }

  get className(): string {
    return this.autoencoder.config._class_name;
  }

  get lossName(): string {
    return this.minimised.config.name;
  }

  get parameters(): readonly ParameterSpec[] {
    return this.autoencoder.parameters;
  }

  prepare(inputs: ImageBatch): ImageBatch {
    return inputs;
  }

  loss(batch: ImageBatch, context: ForwardContext, pass: Pass): LossResult {
    const { clean: images } = batch;
    const { autoencoder, minimised } = this;
    const { computeDtype, scalars } = pass;
    const exact = (value: Value) => cast(value, images.dtype);
    const sample = cast(images, computeDtype);
    if (autoencoder.kind === 'vq') {
      const { latents } = autoencoder.encode(sample, context);
      const { quantized, entries, indices } = autoencoder.quantize(latents, context);
      const reconstruction = exact(autoencoder.decode(quantized, context, { force_not_quantize: true }));
      const codebook = { latents: exact(latents), entries: exact(entries), indices, size: autoencoder.codebookSize };
      return minimised({ images, reconstruction, codebook, scalars });
    }
    const moments = autoencoder.encode(sample, context);
    const [mean, logvar] = [exact(moments.mean), exact(moments.logvar)];
    const deviation = exp(mul(logvar, scalarLike(logvar, 0.5)));
    const latents = batch.noise ? add(mean, mul(deviation, batch.noise)) : mean;
    const reconstruction = exact(autoencoder.decode(cast(latents, computeDtype), context));
    return minimised({ images, reconstruction, posterior: { mean, logvar }, scalars });
  }
}
