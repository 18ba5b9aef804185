import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AutoencoderKL,
  type AutoencoderKLOptions,
  AutoencoderSession,
  autoencoderFromConfig,
  type ImageTensor,
  VQModel,
} from '../../src/autoencoders/index.ts';
import { DisposedError, InvalidArgumentError } from '../../src/errors.ts';
import { elementCount } from '../../src/graph/types.ts';
import { initialParameters } from '../../src/models/model.ts';
import { filledWeights, noise, relativeError } from './cases.ts';

const options = {
  block_out_channels: [4, 4],
  down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D'],
  up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D'],
  norm_num_groups: 2,
  latent_channels: 2,
  sample_size: 8,
  mid_block_add_attention: false,
} satisfies AutoencoderKLOptions;
const images = (...shape: [number, number, number, number]): ImageTensor => ({
  data: noise(elementCount(shape), 500),
  shape,
});
const cpu = { device: 'cpu' } as const;

describe('tiles', () => {
  const { tiled } = JSON.parse(readFileSync(new URL('../fixtures/vae/references.json', import.meta.url), 'utf8'));

  it('are encoded, decoded and blended as diffusers does', async () => {
    const autoencoder = autoencoderFromConfig(tiled.config);
    const weights = new Map(autoencoder.parameters.map((spec, i) => [spec.name, filledWeights(spec, i)]));
    const session = await AutoencoderSession.create(autoencoder, weights, { ...cpu, tiling: true });
    const { mean, logvar } = await session.moments(images(...(tiled.shape as [number, number, number, number])));
    const decoded = await session.decode(mean);
    await session.dispose();
    expect([mean.shape, decoded.shape]).toEqual([[1, 2, 20, 14], tiled.shape]);
    expect(relativeError(mean.data, tiled.mean)).toBeLessThan(1e-5);
    expect(relativeError(logvar.data, tiled.logvar)).toBeLessThan(1e-5);
    expect(relativeError(decoded.data, tiled.decoded)).toBeLessThan(1e-5);
  });

  it('that do not overlap are what each gives alone', async () => {
    const autoencoder = new AutoencoderKL(options);
    const weights = initialParameters(autoencoder, 1);
    const tiling = { tile_sample_min_size: 4, tile_overlap_factor: 0 };
    const whole = await AutoencoderSession.create(autoencoder, weights, cpu);
    const inTiles = await AutoencoderSession.create(autoencoder, weights, { ...cpu, tiling });
    const wide = images(2, 3, 4, 8);
    const encoded = await inTiles.encode(wide);
    const left = await whole.encode({
      data: wide.data.filter((_, i) => i % 8 < 4),
      shape: [2, 3, 4, 4],
    });
    expect(encoded.shape).toEqual([2, 2, 2, 4]);
    expect(encoded.data.filter((_, i) => i % 4 < 2)).toEqual(left.data);
    await Promise.all([whole.dispose(), inTiles.dispose()]);
  });

  it.each<[object, string]>([
    [{ tile_sample_min_size: 5 }, 'tile_sample_min_size 5 must be a multiple of 2'],
    [{ tile_overlap_factor: 1 }, 'tile_overlap_factor'],
    [{ tile_size: 8 }, "unknown option 'tile_size'"],
  ])('%j are refused', async (tiling, message) => {
    const autoencoder = new AutoencoderKL(options);
    const created = AutoencoderSession.create(autoencoder, initialParameters(autoencoder, 0), { ...cpu, tiling });
    await expect(created).rejects.toThrow(InvalidArgumentError);
    await expect(created).rejects.toThrow(message);
  });
});

describe('a session', () => {
  const autoencoder = new AutoencoderKL({
    ...options,
    latents_mean: [0.5, -1],
    latents_std: [2, 4],
    scaling_factor: 3,
  });
  const weights = initialParameters(autoencoder, 1);
  let session: AutoencoderSession;
  beforeAll(async () => {
    session = await AutoencoderSession.create(autoencoder, weights, { ...cpu, batch_size: 2 });
  });
  afterAll(() => session.dispose());

  it('gives each image the same whatever is encoded with it, in batches', async () => {
    const three = images(3, 3, 8, 12);
    const latents = await session.encode(three);
    expect(latents.shape).toEqual([3, 2, 4, 6]);
    const last = await session.encode({ data: three.data.subarray(2 * 288), shape: [1, 3, 8, 12] });
    expect(relativeError(last.data, latents.data.subarray(2 * 48))).toBeLessThan(1e-6);
    const decoded = await session.decode(latents);
    expect(decoded.shape).toEqual([3, 3, 8, 12]);
    expect(relativeError((await session.decode(last)).data, decoded.data.subarray(2 * 288))).toBeLessThan(1e-6);
  });

  it('draws latents with given noise', async () => {
    const two = images(2, 3, 8, 8);
    const { mean, logvar } = await session.moments(two);
    const drawn = await session.encode(two, { noise: noise(mean.data.length, 7) });
    const expected = mean.data.map(
      (x, i) => x + Math.exp((logvar.data[i] ?? 0) / 2) * (noise(mean.data.length, 7)[i] ?? 0),
    );
    expect(drawn).toEqual({ data: expected, shape: mean.shape });
  });

  it('scales latents by channel, and back', () => {
    const latents: ImageTensor = { data: Float32Array.of(1, 2, 3, 4), shape: [1, 2, 1, 2] };
    const scaled = session.scale(latents);
    // (latents - mean) x factor / std
    expect([...scaled.data]).toEqual([0.75, 2.25, 3, 3.75]);
    expect(session.unscale(scaled)).toEqual(latents);
  });

  it('scales by a factor and a shift where the config has no means', async () => {
    const shifted = new AutoencoderKL({ ...options, shift_factor: 0.5, scaling_factor: 2 });
    const other = await AutoencoderSession.create(shifted, weights, cpu);
    expect([...other.scale({ data: Float32Array.of(1, 0), shape: [1, 2, 1, 1] }).data]).toEqual([1, -1]);
  });

  it.each<[string, () => Promise<unknown>, string]>([
    ['a height that cannot be halved', () => session.encode(images(1, 3, 7, 8)), 'images of 7x8 pixels do not fit'],
    ['other channels', () => session.encode(images(1, 1, 8, 8)), 'the images must be [count, 3, height, width]'],
    ['too few numbers', () => session.encode({ data: new Float32Array(5), shape: [1, 3, 8, 8] }), 'have 5 numbers'],
    ['no batch axis', () => session.decode(images(2, 4, 6, 0)), 'the latents must be [count, 2, height, width]'],
    [
      'noise of another size',
      () => session.encode(images(1, 3, 8, 8), { noise: new Float32Array(3) }),
      'noise has 3 numbers for 32 latents',
    ],
  ])('refuses %s', async (_what, call, message) => {
    await expect(call()).rejects.toThrow(InvalidArgumentError);
    await expect(call()).rejects.toThrow(message);
  });

  it('refuses unknown options, weights of another model, and calls after dispose()', async () => {
    // @ts-expect-error: not an option
    await expect(AutoencoderSession.create(autoencoder, weights, { tiles: true })).rejects.toThrow('tiles');
    await expect(AutoencoderSession.create(autoencoder, new Map(), cpu)).rejects.toThrow(/parameter 'encoder.conv_in/);
    const other = await AutoencoderSession.create(autoencoder, weights, cpu);
    const running = other.encode(images(1, 3, 8, 8));
    await Promise.all([running, other.dispose(), other.dispose()]);
    await expect(other.encode(images(1, 3, 8, 8))).rejects.toThrow(DisposedError);
  });
});

describe('a session of a VQModel', () => {
  it('quantises latents before they are decoded, unless it is told not to', async () => {
    const vq = new VQModel({ ...options, num_vq_embeddings: 1 });
    const weights = initialParameters(vq, 1);
    const session = await AutoencoderSession.create(vq, weights, cpu);
    const latents = await session.encode(images(1, 3, 8, 8));
    const quantised = await session.decode(latents);
    const raw = await session.decode(latents, { force_not_quantize: true });
    const [first = 0, second = 0] = weights.get('quantize.embedding.weight') ?? [];
    const entries = latents.data.map((_, i) => (i < 16 ? first : second));
    const known = await session.decode({ data: entries, shape: latents.shape }, { force_not_quantize: true });
    expect(relativeError(quantised.data, known.data)).toBeLessThan(1e-5);
    expect(relativeError(raw.data, known.data)).toBeGreaterThan(1e-2);
    await expect(session.encode(images(1, 3, 8, 8), { noise: new Float32Array(32) })).rejects.toThrow('not drawn');
    await expect(session.moments(images(1, 3, 8, 8))).rejects.toThrow('has no moments');
    await session.dispose();
  });
});
