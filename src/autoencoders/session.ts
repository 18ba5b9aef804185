import { createHash } from '#platform/hash';
import { setTf32 } from '#runtime/tf32';
import { requireObject } from '../arguments.ts';
import { DisposedError, InvalidArgumentError } from '../errors.ts';
import { writeOnnx } from '../graph/onnx/write.ts';
import { concatenated, elementCount } from '../graph/types.ts';
import { requireWeights } from '../models/model.ts';
import { type Fields, parseOptions } from '../options.ts';
import { bytesOf } from '../platform/bytes.ts';
import {
  type ConcreteDevice,
  type Device,
  deviceIdOption,
  isCuda,
  parseDevice,
  resolveDevice,
} from '../runtime/device.ts';
import { float32Data, hostTensor, Session } from '../runtime/session.ts';
import * as z from '../zod.ts';
import {
  type Autoencoder,
  type ImageTensor,
  latentSize,
  scaleLatents,
  unscaleLatents,
  type VqDecodeOptions,
} from './autoencoder.ts';
import { exportDecoderGraph, exportEncoderGraph } from './export.ts';
import { parseTiling, type Tiling, type TilingOptions, throughTiles } from './tiling.ts';

/** Where and how an autoencoder runs. */
export interface AutoencoderSessionOptions {
  /** Where it runs; default 'auto', the best device there is. 'gpu' is any GPU. */
  readonly device?: Device | null | undefined;
  /** Which GPU the device `cuda` is, from 0; default as in `pipeline()`. */
  readonly device_id?: number | undefined;
  /** As in `pipeline()`: whether the device `cuda` multiplies float32 in TF32. Default: as the environment says. */
  readonly tf32?: boolean | undefined;
  /**
   * Whether an image that is larger than a tile goes through in overlapping tiles, which needs the memory of one tile and
   * gives nearly the same. Default false; true is diffusers' tiles: of `sample_size`, a quarter of which overlaps.
   */
  readonly tiling?: boolean | TilingOptions | undefined;
  /** Images, or tiles of them, that go through at a time, 1 or more; default as many as have 512 x 512 pixels together. */
  readonly batch_size?: number | undefined;
}

const sessionSchema = z.strictObject({
  device: z.optional(z.custom<Device | null>((value) => typeof value === 'string' || value === null, 'must be a text')),
  device_id: z.optional(deviceIdOption),
  tf32: z.optional(z.boolean()),
  tiling: z.optional(z.custom<boolean | TilingOptions>((value) => value !== null, 'must be true, false or options')),
  batch_size: z.optional(z.int().check(z.gte(1))),
} satisfies Fields<AutoencoderSessionOptions>);

/** The options of a session alone, checked. @throws {InvalidArgumentError} that lists what is wrong or unknown. */
export function parseSessionOptions(options: AutoencoderSessionOptions): AutoencoderSessionOptions {
  return parseOptions(sessionSchema, options, 'options of an autoencoder');
}

/** Options of `encode`. */
export interface EncodeOptions {
  /**
   * Standard normal numbers, as many as there are latents, for latents that are drawn: mean + standard deviation x noise.
   * Default: the mean. For a KL autoencoder.
   */
  readonly noise?: Float32Array | undefined;
}

/** How many graphs of one half stay loaded; each is of images of one size. The tiles of an image have up to four. */
const LOADED_SIZES = 4;
const PIXELS_AT_A_TIME = 512 * 512;

type Half = 'encoder' | 'decoder' | 'decoder of vectors';

/**
 * An autoencoder on a device: encodes images into latents, and decodes latents into images.
 *
 * A graph is built for each size of images that comes, the four last of which stay loaded. Calls run one after another.
 *
 * @example
 * const session = await AutoencoderSession.create(autoencoder, weights, { device: 'cpu' });
 * const latents = await session.encode({ data: pixels, shape: [1, 3, 64, 64] });
 * const { data } = await session.decode(latents);
 * await session.dispose();
 */
export class AutoencoderSession {
  private readonly loaded = new Map<string, Session>();
  private running: Promise<unknown> = Promise.resolve();
  private disposed = false;
  private checksum: string | undefined;

  private constructor(
    /** The network that runs. */
    readonly autoencoder: Autoencoder,
    /** Every parameter by name. */
    readonly weights: ReadonlyMap<string, Float32Array>,
    /** Where it runs. */
    readonly device: ConcreteDevice,
    private readonly tiling: Tiling | undefined,
    private readonly batchSize: number | undefined,
  ) {}

  /**
   * @param weights every parameter by name, row-major. They are kept, not copied.
   * @throws {InvalidArgumentError} when an option is wrong or unknown, or `weights` lacks a parameter, has an unknown one, or
   * one of a wrong size.
   * @throws {DeviceError} when the device cannot be used.
   */
  static async create(
    autoencoder: Autoencoder,
    weights: ReadonlyMap<string, Float32Array>,
    options: AutoencoderSessionOptions = {},
  ): Promise<AutoencoderSession> {
    const { device: wanted, device_id, tf32, tiling, batch_size } = parseSessionOptions(options);
    requireWeights(autoencoder, weights);
    const tiles = parseTiling(autoencoder, tiling);
    const device = await resolveDevice(parseDevice(wanted ?? 'auto'), { samples: 'images', device_id });
    if (isCuda(device) && tf32 !== undefined) setTf32(tf32);
    return new AutoencoderSession(autoencoder, weights, device, tiles, batch_size);
  }

  /**
   * @param images [count, channels, height, width] in [-1, 1], height and width multiples of `downsampling`.
   * @returns latents [count, latentChannels, height / downsampling, width / downsampling], not scaled: the means of a KL
   * autoencoder, or drawn with `noise`; of a VQ autoencoder those before they are quantised.
   * @throws {InvalidArgumentError} when the images do not fit, or there is too much noise or too little.
   * @throws {DisposedError} after `dispose()`.
   */
  async encode(images: ImageTensor, { noise }: EncodeOptions = {}): Promise<ImageTensor> {
    if (this.autoencoder.kind === 'vq') {
      if (noise) throw new InvalidArgumentError('noise was given to a VQ autoencoder, whose latents are not drawn');
      return this.throughEncoder(images);
    }
    if (noise === undefined) return (await this.moments(images)).mean;
    const wanted = this.latentCount(images);
    if (noise.length !== wanted)
      throw new InvalidArgumentError(`noise has ${noise.length} numbers for ${wanted} latents`);
    const { mean, logvar } = await this.moments(images);
    const drawn = mean.data.map((value, i) => value + Math.exp((logvar.data[i] ?? 0) / 2) * (noise[i] ?? 0));
    return { data: drawn, shape: mean.shape };
  }

  /**
   * Mean and logarithm of the variance of each latent, of a KL autoencoder.
   *
   * @throws {InvalidArgumentError} when the images do not fit, or it is a VQ autoencoder.
   */
  async moments(images: ImageTensor): Promise<{
    /** Of each latent. */
    readonly mean: ImageTensor;
    /** The logarithm of its variance. */
    readonly logvar: ImageTensor;
  }> {
    const { kind, latentChannels, config } = this.autoencoder;
    if (kind === 'vq')
      throw new InvalidArgumentError(`a ${config._class_name} has no moments: its latents are not drawn`);
    const { data, shape } = await this.throughEncoder(images);
    const [count, , height, width] = shape;
    const size = latentChannels * height * width;
    const half = (first: number) => ({
      data: concatenated(
        Array.from({ length: count }, (_, i) => data.subarray((2 * i + first) * size, (2 * i + first + 1) * size)),
      ),
      shape: [count, latentChannels, height, width] as const,
    });
    return { mean: half(0), logvar: half(1) };
  }

  /**
   * @param latents [count, latentChannels, height, width], not scaled.
   * @param options.force_not_quantize of a VQ autoencoder, see `VqDecodeOptions`; default false.
   * @returns images [count, channels, height x downsampling, width x downsampling], about in [-1, 1].
   * @throws {InvalidArgumentError} when the latents do not fit.
   * @throws {DisposedError} after `dispose()`.
   */
  async decode(latents: ImageTensor, { force_not_quantize = false }: VqDecodeOptions = {}): Promise<ImageTensor> {
    const { latentChannels, kind } = this.autoencoder;
    checkTensor(latents, latentChannels, 'the latents');
    const half = kind === 'vq' && force_not_quantize ? 'decoder of vectors' : 'decoder';
    return this.inTurn(() => this.inBatches(half, latents, this.tiling));
  }

  /** SHA-256 (hex) of what decides its numbers but for the device: config, weights and tiles. */
  get sha256(): string {
    this.checksum ??= checksumOf(this.autoencoder, this.weights, this.tiling);
    return this.checksum;
  }

  /** `scaleLatents` of the autoencoder. */
  scale(latents: ImageTensor): ImageTensor {
    return scaleLatents(this.autoencoder, latents);
  }

  /** `unscaleLatents` of the autoencoder. */
  unscale(latents: ImageTensor): ImageTensor {
    return unscaleLatents(this.autoencoder, latents);
  }

  /** Frees the models after the calls that run. A second call does nothing. */
  async dispose(): Promise<void> {
    this.disposed = true;
    await this.running.catch(() => undefined);
    const sessions = [...this.loaded.values()];
    this.loaded.clear();
    for (const session of sessions) await session.release();
  }

  private throughEncoder(images: ImageTensor): Promise<ImageTensor> {
    const { downsampling } = this.autoencoder;
    this.latentCount(images);
    const tiling = this.tiling && { side: this.tiling.side * downsampling, step: this.tiling.step * downsampling };
    return this.inTurn(() => this.inBatches('encoder', images, tiling));
  }

  /** @throws {InvalidArgumentError} when the images do not fit, or cannot be halved as often as needed. */
  private latentCount(images: ImageTensor): number {
    checkTensor(images, this.autoencoder.channels, 'the images');
    const [count, , height, width] = images.shape;
    return elementCount([count, this.autoencoder.latentChannels, ...latentSize(this.autoencoder, [height, width])]);
  }

  /** After the calls before: of two at once, each would load what the other has. */
  private async inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.disposed)
      throw new DisposedError('the autoencoder was disposed of, and cannot be used after dispose(): load it again');
    const result = this.running.then(work, work);
    this.running = result;
    return result;
  }

  private async inBatches(half: Half, whole: ImageTensor, tiling: Tiling | undefined): Promise<ImageTensor> {
    const [count, channels, height, width] = whole.shape;
    const pixels = height * width * (half === 'encoder' ? 1 : this.autoencoder.downsampling ** 2);
    const size = this.batchSize ?? Math.max(1, Math.floor(PIXELS_AT_A_TIME / pixels));
    const isTiled = tiling && (height > tiling.side || width > tiling.side);
    const parts: ImageTensor[] = [];
    for (let first = 0; first < count; first += size) {
      const some = Math.min(size, count - first);
      const length = channels * height * width;
      const data = whole.data.subarray(first * length, (first + some) * length);
      const part = { data, shape: [some, channels, height, width] as const };
      parts.push(
        isTiled ? await throughTiles(part, tiling, (tile) => this.run(half, tile)) : await this.run(half, part),
      );
    }
    const [first] = parts;
    if (!first || parts.length === 1) return first ?? whole;
    return {
      data: concatenated(parts.map(({ data }) => data)),
      shape: [count, first.shape[1], first.shape[2], first.shape[3]],
    };
  }

  private async run(half: Half, { data, shape }: ImageTensor): Promise<ImageTensor> {
    const [, , height, width] = shape;
    const session = await this.sessionFor(half, [height, width]);
    const [input = ''] = session.inputNames;
    const [output = ''] = session.outputNames;
    const { [output]: result } = await session.run({ [input]: hostTensor('float32', shape, data) });
    const [count = 0, channels = 0, rows = 0, columns = 0] = result?.dims ?? [];
    return { data: float32Data(result, output), shape: [count, channels, rows, columns] };
  }

  private async sessionFor(half: Half, [height, width]: readonly [number, number]): Promise<Session> {
    const key = `${half} ${height}x${width}`;
    const session = this.loaded.get(key);
    if (session) {
      // It is the last to go.
      this.loaded.delete(key);
      this.loaded.set(key, session);
      return session;
    }
    const others = [...this.loaded].filter(([other]) => other.startsWith(`${half} `));
    const [oldest] = others;
    if (oldest && others.length >= LOADED_SIZES) {
      this.loaded.delete(oldest[0]);
      await oldest[1].release();
    }
    const loaded = await this.load(half, [height, width]);
    this.loaded.set(key, loaded);
    return loaded;
  }

  private async load(half: Half, [height, width]: readonly [number, number]): Promise<Session> {
    const { autoencoder, weights, device } = this;
    const factor = half === 'encoder' ? 1 : autoencoder.downsampling;
    const size = [height * factor, width * factor] as const;
    const target = isCuda(device) ? 'cuda' : 'any';
    const graph =
      half === 'encoder'
        ? exportEncoderGraph(autoencoder, weights, { size, target })
        : exportDecoderGraph(autoencoder, weights, { size, target, force_not_quantize: half === 'decoder of vectors' });
    // The place in a codebook is an int64, which webgpu has not.
    const forbidFallback = device === 'webgpu' && half === 'decoder' && autoencoder.kind === 'vq' ? false : undefined;
    return Session.create(writeOnnx(graph), device, { forbidFallback });
  }
}

function checksumOf(
  { config, parameters }: Autoencoder,
  weights: ReadonlyMap<string, Float32Array>,
  tiling: Tiling | undefined,
): string {
  const hash = createHash('sha256').update(JSON.stringify([config, tiling ?? null]));
  for (const { name } of parameters) hash.update(bytesOf(weights.get(name) ?? new Float32Array()));
  return hash.digest('hex');
}

/** @throws {InvalidArgumentError} unless `tensor` is [count, channels, height, width] with as many numbers. */
function checkTensor(tensor: ImageTensor, channels: number, what: string): void {
  requireObject(what, tensor);
  const { data, shape } = tensor;
  const isShape = shape.length === 4 && shape.every((dim) => Number.isSafeInteger(dim) && dim > 0);
  if (!isShape || shape[1] !== channels)
    throw new InvalidArgumentError(
      `${what} must be [count, ${channels}, height, width], but are [${shape.join(', ')}]`,
    );
  if (data.length !== elementCount(shape))
    throw new InvalidArgumentError(`${what} are [${shape.join(', ')}] and have ${data.length} numbers`);
}
