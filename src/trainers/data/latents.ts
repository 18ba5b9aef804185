// The latents of images, which a model of latent diffusion is trained on: encoded once, and kept in a file.
import { defaultCacheDir } from '#files/download';
import { createHash } from '#platform/hash';
import { join } from '#platform/path';
import { type LatentScaling, latentSize, scaleLatents } from '../../autoencoders/autoencoder.ts';
import type { AutoencoderSession } from '../../autoencoders/session.ts';
import type { ImageSet } from '../../datasets/images/image-set.ts';
import type { PointSet } from '../../datasets/points/points.ts';
import { InvalidArgumentError } from '../../errors.ts';
import type { JsonObject } from '../../files/json.ts';
import { type Fields, functionOption, parseOptions } from '../../options.ts';
import type { RandomStream } from '../../random/random-stream.ts';
import type { Scheduler } from '../../schedulers/scheduler.ts';
import * as z from '../../zod.ts';
import type { LatentCodec } from '../save-pipeline.ts';
import type { LatentRows } from './latent-file.ts';
import { isImageSet, type Samples } from './samples.ts';

/** How a `Trainer` with an `autoencoder` makes its samples. */
export interface LatentSetOptions {
  /**
   * What of the encoder's normal distribution is taken: 'sample', one drawn for each image by `args.seed`, or 'mean'. Default
   * 'sample' for a KL autoencoder, as diffusers' scripts do. A VQ autoencoder has no distribution: its latents before they
   * are quantised are taken, and this is left out.
   */
  readonly posterior?: 'sample' | 'mean' | undefined;
  /**
   * What latents are multiplied by, finite and above 0; or 'measured' (default): 1 / their standard deviation over the
   * whole set, rounded to 5 digits. It is saved as `scaling_factor` in the config of the autoencoder.
   */
  readonly scaling_factor?: number | 'measured' | undefined;
  /** The folder of encoded sets. Default `$XDG_CACHE_HOME/iso-diffusion` or `~/.cache/iso-diffusion`. */
  readonly cache_dir?: string | undefined;
  /** A set with more bytes of latents is read sample by sample from its file; at least 0; default 1 GiB. */
  readonly max_memory_bytes?: number | undefined;
  /** Called while images are encoded; not where the file is there already. Default: nothing is called. */
  readonly on_progress?: ((progress: { readonly done: number; readonly total: number }) => void) | undefined;
}

const scalingFactor = z.custom<number | 'measured'>(
  (value) => value === 'measured' || (typeof value === 'number' && value > 0 && value < Number.POSITIVE_INFINITY),
  { error: ({ input }) => `is ${String(input)}, but must be a finite number above 0, or 'measured'` },
);

const latentsSchema = z.strictObject({
  posterior: z.optional(z.enum(['sample', 'mean'])),
  scaling_factor: z.optional(scalingFactor),
  cache_dir: z.optional(z.string().check(z.minLength(1))),
  max_memory_bytes: z.optional(z.number().check(z.gte(0))),
  on_progress: z.optional(functionOption<NonNullable<LatentSetOptions['on_progress']>>()),
} satisfies Fields<LatentSetOptions>);

const DEFAULT_MEMORY_BYTES = 2 ** 30;

/** Images as the samples of a model of latents. `open` encodes them, or finds them encoded. */
export class LatentSamples implements Samples {
  readonly isRandom: boolean;
  readonly sampleShape: readonly [channels: number, height: number, width: number];
  private readonly store: { readonly file: string; readonly rows: number };
  private readonly posterior: 'sample' | 'mean' | undefined;
  private opened: Promise<void> | undefined;
  private rowOf: LatentRows | undefined;
  private factor: number | undefined;

  /**
   * @param settings.seed draws from the encoder's distribution.
   * @throws {InvalidArgumentError} when the images do not fit the autoencoder, or an option is wrong.
   */
  constructor(
    private readonly set: ImageSet,
    private readonly session: AutoencoderSession,
    private readonly options: LatentSetOptions,
    private readonly settings: { readonly random_flip: boolean; readonly seed: number },
  ) {
    const { autoencoder, sha256 } = session;
    const { posterior, scaling_factor = 'measured', cache_dir = defaultCacheDir() } = options;
    const { random_flip, seed } = settings;
    refuseUnfit(set, session);
    if (posterior !== undefined && autoencoder.kind === 'vq')
      throw new InvalidArgumentError(
        `posterior is '${posterior}', but a ${autoencoder.config._class_name} encodes to latents, not to a distribution: leave it out`,
      );
    this.posterior = autoencoder.kind === 'vq' ? undefined : (posterior ?? 'sample');
    this.isRandom = random_flip;
    this.sampleShape = [autoencoder.latentChannels, ...latentSize(autoencoder, [set.height, set.width])];
    this.factor = scaling_factor === 'measured' ? undefined : scaling_factor;
    const drawnBy = this.posterior === 'sample' ? seed : null;
    const key = JSON.stringify([set.fingerprint, sha256, this.posterior ?? null, drawnBy, random_flip]);
    const name = createHash('sha256').update(key).digest('hex');
    this.store = { file: join(cache_dir, 'latents', `${name}.latents`), rows: set.count * (random_flip ? 2 : 1) };
  }

  get name(): string {
    return `latents of ${this.set.name}`;
  }

  get count(): number {
    return this.set.count;
  }

  get labels(): Int32Array | undefined {
    return this.set.labels;
  }

  get fingerprint(): string {
    return this.set.fingerprint;
  }

  /** What of the latents decides the numbers of a run. A factor that is measured is known once they are open. */
  get identity(): JsonObject {
    const { autoencoder, sha256 } = this.session;
    return {
      _class_name: autoencoder.config._class_name,
      sha256,
      posterior: this.posterior ?? null,
      scaling_factor: this.factor ?? 'measured',
    };
  }

  /** What a model card says of them. */
  get facts(): JsonObject {
    const { _class_name: autoencoder, posterior, scaling_factor } = this.identity;
    return { autoencoder: autoencoder ?? null, posterior: posterior ?? null, scaling_factor: scaling_factor ?? null };
  }

  /** How latents are scaled. @throws {InvalidArgumentError} when the factor is to be measured, and they are not open. */
  get scaling(): LatentScaling {
    if (this.factor === undefined)
      throw new InvalidArgumentError('the scaling factor of the latents is measured when train() begins');
    return { ...this.session.autoencoder.scaling, factor: this.factor };
  }

  /** The autoencoder with the scaling of these latents in its config, as a pipeline holds it. They must be open. */
  async codec(): Promise<LatentCodec> {
    // A bundle that does not train on latents has no autoencoders.
    const { autoencoderFromConfig } = await import('../../autoencoders/registry.ts');
    const { autoencoder, weights } = this.session;
    const config = { ...autoencoder.config, scaling_factor: this.scaling.factor };
    return { autoencoder: autoencoderFromConfig(config), weights };
  }

  /** Encodes the images unless that was done before. */
  open(signal?: AbortSignal): Promise<void> {
    this.opened ??= this.read(signal).catch((error: unknown) => {
      this.opened = undefined;
      throw error;
    });
    return this.opened;
  }

  /** The factor of rank 0, for all ranks. */
  useFactor(factor: number): void {
    this.factor = factor;
  }

  fill(index: number, target: Float32Array, stream: RandomStream): void {
    if (!this.rowOf) throw new InvalidArgumentError('the latents are not encoded yet');
    const mirrored = this.isRandom && stream.uniform() < 0.5;
    const latents = this.rowOf(mirrored ? this.count + index : index);
    target.set(scaled(latents, this.sampleShape, this.scaling));
  }

  private async read(signal: AbortSignal | undefined): Promise<void> {
    // A bundle that does not train on latents gets neither what encodes them nor what keeps them.
    const { encodedRows, measuredFactor } = await import('./latent-encoding.ts');
    const { set, session, settings, posterior, sampleShape, store } = this;
    const { max_memory_bytes: maxMemoryBytes = DEFAULT_MEMORY_BYTES, on_progress: onProgress } = this.options;
    const seed = posterior === 'sample' ? settings.seed : undefined;
    const found = await encodedRows({ set, session, seed, sampleShape, maxMemoryBytes, onProgress, ...store }, signal);
    const { scaling } = session.autoencoder;
    const unscaled = (row: number) => scaled(found(row), sampleShape, { ...scaling, factor: 1 });
    this.factor ??= measuredFactor(unscaled, store.rows, set.name);
    this.rowOf = found;
  }
}

/** The options of a trainer that say how its samples become latents. */
interface LatentParts {
  readonly train_dataset: PointSet | ImageSet;
  readonly condition_dataset?: ImageSet | undefined;
  readonly autoencoder?: AutoencoderSession | undefined;
  readonly latents?: LatentSetOptions | undefined;
  readonly noise_scheduler: Scheduler;
}

/**
 * The samples of a trainer with an autoencoder; undefined without one.
 *
 * @throws {InvalidArgumentError} when data, autoencoder, scheduler and options do not go together.
 */
export function latentSamples(
  { train_dataset: data, condition_dataset, autoencoder, latents, noise_scheduler }: LatentParts,
  args: { readonly random_flip: boolean; readonly seed: number },
): LatentSamples | undefined {
  if (!autoencoder && latents)
    throw new InvalidArgumentError(
      'the option latents is for latent diffusion: give the autoencoder that encodes them',
    );
  if (!autoencoder) return undefined;
  if (condition_dataset)
    throw new InvalidArgumentError(
      'condition_dataset is for models that are given images beside images, and this one is trained on latents: leave out autoencoder or condition_dataset',
    );
  if (!isImageSet(data))
    throw new InvalidArgumentError(`'${data.name}' has points, but an autoencoder encodes images: leave it out`);
  const { clip_sample, clip_sample_range } = noise_scheduler.toConfig();
  if (clip_sample && clip_sample_range === 1)
    throw new InvalidArgumentError(
      'noise_scheduler clips samples to [-1, 1] (clip_sample), but latents lie outside too: make it with clip_sample: false, or with the clip_sample_range of your latents',
    );
  return new LatentSamples(data, autoencoder, parseOptions(latentsSchema, latents ?? {}, 'the option latents'), args);
}

/** @throws {InvalidArgumentError} when an autoencoder cannot encode the images once for all. */
function refuseUnfit(images: ImageSet, { autoencoder }: AutoencoderSession): void {
  const { name, channels, uncropped } = images;
  if (channels !== autoencoder.channels)
    throw new InvalidArgumentError(
      `the images of '${name}' have ${channels} channels, but the ${autoencoder.config._class_name} encodes images of ${autoencoder.channels}: load them with channels: ${autoencoder.channels}`,
    );
  if (uncropped)
    throw new InvalidArgumentError(
      `the images of '${name}' are cropped at random, but latents are encoded once, before the training: load them with center_crop`,
    );
}

function scaled(data: Float32Array, shape: LatentSamples['sampleShape'], scaling: LatentScaling): Float32Array {
  return scaleLatents({ scaling }, { data, shape: [1, ...shape] }).data;
}
