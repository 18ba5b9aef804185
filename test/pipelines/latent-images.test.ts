import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { RawImage, type Tensor } from '@huggingface/transformers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { scaleLatents } from '../../src/autoencoders/autoencoder.ts';
import { loadAutoencoder } from '../../src/autoencoders/open-autoencoder.ts';
import type { AutoencoderSession } from '../../src/autoencoders/session.ts';
import { ConfigError, FileFormatError, InvalidArgumentError } from '../../src/errors.ts';
import { readSafetensors } from '../../src/files/safetensors.ts';
import { zipFolder } from '../../src/files/zip.ts';
import { initialParameters } from '../../src/models/index.ts';
import { pipeline, type UnconditionalImageGenerationPipeline } from '../../src/pipelines/index.ts';
import { DDIMScheduler, DDPMScheduler } from '../../src/schedulers/index.ts';
import { DDIMInverseScheduler } from '../../src/schedulers/solvers/ddim-inverse.ts';
import { saveTrainedPipeline } from '../../src/trainers/save-pipeline.ts';
import { openTiny, tinyKl } from '../autoencoders/saved-autoencoder.ts';
import { tinyUNet } from '../models/tiny-unet.ts';

const SCALING = 1.75;
const SHIFT = 0.25;
const ddim = new DDIMScheduler({ clip_sample: false });
const quick = { scheduler: ddim, num_inference_steps: 3 };
let root: string;
let folder: string;
let session: AutoencoderSession;
let generate: UnconditionalImageGenerationPipeline;

beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-'));
  folder = path.join(root, 'pipeline');
  session = await openTiny(tinyKl({ scaling_factor: SCALING, shift_factor: SHIFT }));
  const model = tinyUNet({ sample_size: 4, in_channels: 2, out_channels: 2 });
  const { autoencoder, weights } = session;
  await saveTrainedPipeline(folder, {
    model,
    weights: initialParameters(model, 0),
    scheduler: new DDPMScheduler({ clip_sample: false }),
    autoencoder: { autoencoder, weights },
  });
  generate = await pipeline('unconditional-image-generation', folder, { device: 'cpu' });
});
afterAll(async () => {
  await generate.dispose();
  await session.dispose();
  await rm(root, { recursive: true, force: true });
});

/** An image of 8x8 with a bright part that moves. */
const picture = (place: number) =>
  new RawImage(
    Uint8ClampedArray.from({ length: 64 }, (_, i) => ((i + place * 8) % 64 < 24 ? 240 : 30)),
    8,
    8,
    1,
  );
const values = (tensor: Tensor) => tensor.data as Float32Array;

describe('a pipeline of latent diffusion', () => {
  it("decodes as diffusers' LDMPipeline: latents / scaling_factor (+ shift), then images in [0, 1]", async () => {
    const latents = await generate({ ...quick, batch_size: 3, seed: 5, output_type: 'latent' });
    expect(latents.dims).toEqual([3, 2, 4, 4]);
    const unscaled = values(latents).map((z) => z / SCALING + SHIFT);
    const { data } = await session.decode({ data: unscaled, shape: [3, 2, 4, 4] });
    const tensor = await generate({ ...quick, batch_size: 3, seed: 5, output_type: 'tensor' });
    expect(tensor.dims).toEqual([3, 1, 8, 8]);
    values(tensor).forEach((value, i) => {
      expect(value).toBeCloseTo(Math.min(Math.max((data[i] ?? Number.NaN) / 2 + 0.5, 0), 1), 5);
    });
    const bytes = await generate({ ...quick, batch_size: 3, seed: 5, output_type: 'uint8' });
    expect([bytes.count, bytes.height, bytes.width, bytes.channels]).toEqual([3, 8, 8, 1]);
    expect([...bytes.data]).toEqual(Array.from(values(tensor), (x) => Math.round(x * 255)));
    expect(await generate.decode(latents)).toEqual(bytes);
    expect(generate.imageShape).toEqual([1, 8, 8]);
    expect(generate.model.sampleShape).toEqual([2, 4, 4]);
  });

  it('draws images, batches and folders, and shows callbacks latents that can be decoded', async () => {
    const seen: number[] = [];
    const images = await generate({
      ...quick,
      batch_size: 2,
      seed: 5,
      callback_on_step_end: async (_step, _timestep, { sample }) => {
        seen.push((await generate.decode(sample)).data.length);
      },
    });
    expect(seen).toEqual([128, 128, 128]);
    expect(images.map(({ width, height, channels }) => [width, height, channels])).toEqual([
      [8, 8, 1],
      [8, 8, 1],
    ]);
    const bytes = await generate({ ...quick, batch_size: 3, seed: 5, output_type: 'uint8' });
    const drawn: number[] = [];
    for await (const batch of generate.batches({ ...quick, count: 3, batch_size: 2, seed: 5 }))
      drawn.push(...batch.data);
    expect(drawn).toEqual([...bytes.data]);
    const out = path.join(root, 'images');
    expect(await generate.toFolder(out, { ...quick, count: 2, seed: 5 })).toHaveLength(2);
    const record = JSON.parse(await readFile(path.join(out, 'generation.json'), 'utf8'));
    expect(record.autoencoder_sha256).toBe(session.sha256);
    expect(await readdir(out)).toContain('000001.png');
  });

  it('interpolates latents, and inverts images through the encoder', async () => {
    const frames = await generate.interpolate(1, 2, 3, quick);
    const [first, last] = [await generate({ ...quick, seed: 1 }), await generate({ ...quick, seed: 2 })];
    expect([frames[0]?.data, frames[2]?.data]).toEqual([first.data, last.data]);
    const noise = await generate.invert([picture(0), picture(3)], { num_inference_steps: 5 });
    expect(noise.dims).toEqual([2, 2, 4, 4]);
    const pixels = [picture(0), picture(3)].flatMap(({ data }) => Array.from(data, (x) => x / 127.5 - 1));
    const encoded = await session.encode({ data: Float32Array.from(pixels), shape: [2, 1, 8, 8] });
    let x = scaleLatents(session.autoencoder, encoded).data;
    const inverse = new DDIMInverseScheduler({ clip_sample: false });
    inverse.setTimesteps(5);
    for (const t of inverse.timesteps) x = inverse.step(await generate.model.predict(x, t), t, x).prev_sample;
    values(noise).forEach((value, i) => void expect(value).toBeCloseTo(x[i] ?? Number.NaN, 4));
  });

  it('keeps the latents of the part of an image that a mask does not have', async () => {
    // White on the right half: 2 of 4 columns of latents.
    const mask = new RawImage(
      Uint8ClampedArray.from({ length: 64 }, (_, i) => (i % 8 < 4 ? 0 : 255)),
      8,
      8,
      1,
    );
    const image = picture(1);
    const edit = { ...quick, image, mask_image: mask, jump_n_sample: 1, seed: 4 };
    const drawn = values(await generate({ ...edit, output_type: 'latent' }));
    const pixels = Float32Array.from(image.data, (x) => x / 127.5 - 1);
    const encoded = await session.encode({ data: pixels, shape: [1, 1, 8, 8] });
    const kept = scaleLatents(session.autoencoder, encoded).data;
    drawn.forEach((value, i) => {
      if (i % 4 < 2) expect(value).toBeCloseTo(kept[i] ?? Number.NaN, 5);
      else expect(value).not.toBeCloseTo(kept[i] ?? Number.NaN, 5);
    });
    const unchanged = await generate({ ...quick, image, strength: 0, output_type: 'latent' });
    values(unchanged).forEach((value, i) => void expect(value).toBeCloseTo(kept[i] ?? Number.NaN, 5));
  });

  it("decodes the latents of diffusers' VQModel as diffusers does, quantised", async () => {
    const fixture = new URL('../fixtures/vae/vq-small/', import.meta.url).pathname;
    const published = path.join(root, 'published');
    const { latents, decoded } = Object.fromEntries(await readSafetensors(path.join(fixture, 'case.safetensors')));
    const [count = 1, channels = 1, height = 1, width = 1] = latents?.shape ?? [];
    const model = tinyUNet({ sample_size: [height, width], in_channels: channels, out_channels: channels });
    const vq = await loadAutoencoder(fixture, { device: 'cpu' });
    const { autoencoder, weights } = vq;
    await saveTrainedPipeline(published, {
      model,
      weights: initialParameters(model, 0),
      scheduler: ddim,
      autoencoder: { autoencoder, weights },
    });
    // As diffusers saves it.
    for (const name of ['encoder_model.onnx', 'decoder_model.onnx']) await rm(path.join(published, 'vqvae', name));
    await cp(path.join(fixture, 'config.json'), path.join(published, 'vqvae/config.json'));
    const draw = await pipeline('unconditional-image-generation', published, { device: 'cpu' });
    const images = await draw.decode(
      ((latents?.data as Float32Array | undefined) ?? new Float32Array()).map((z) => z * autoencoder.scaling.factor),
    );
    const pixels = images.height * images.width;
    images.data.forEach((byte, at) => {
      const [image, pixel, channel] = [
        Math.floor(at / (pixels * images.channels)),
        Math.floor(at / images.channels) % pixels,
        at % images.channels,
      ];
      const value = Number(decoded?.data[(image * images.channels + channel) * pixels + pixel]);
      // Half a byte of rounding, and 1e-4 of the fixtures.
      expect(Math.abs(byte - Math.min(Math.max(value / 2 + 0.5, 0), 1) * 255)).toBeLessThan(0.52);
    });
    expect(images.count).toBe(count);
    await draw.dispose();
    await vq.dispose();
  });

  it('draws the same from a zip file and from a server', async () => {
    const expected = await generate({ ...quick, seed: 8, output_type: 'uint8' });
    const server = createServer((request, response) => {
      const file = path.join(root, decodeURIComponent(request.url ?? ''));
      if (existsSync(file)) response.end(readFileSync(file));
      else response.writeHead(404).end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    try {
      for (const source of [await zipFolder(folder), new URL(`http://127.0.0.1:${port}/pipeline`)]) {
        const draw = await pipeline('unconditional-image-generation', source, { device: 'cpu' });
        expect(await draw({ ...quick, seed: 8, output_type: 'uint8' })).toEqual(expected);
        await draw.dispose();
      }
    } finally {
      server.close();
    }
  });

  it('refuses output_type latent for a model that draws images, and an autoencoder of other latents', async () => {
    const write = (config: object) => writeFile(path.join(folder, 'vqvae/config.json'), JSON.stringify(config));
    const config = JSON.parse(await readFile(path.join(folder, 'vqvae/config.json'), 'utf8'));
    const open = () => pipeline('unconditional-image-generation', folder, { device: 'cpu' });
    try {
      await write({ ...config, latent_channels: 3 });
      await expect(open()).rejects.toThrow(ConfigError);
      await write({ ...config, scaling_factor: 0 });
      await expect(open()).rejects.toThrow(ConfigError);
    } finally {
      await write(config);
    }
    await rm(path.join(root, 'broken'), { recursive: true, force: true });
    const index = JSON.parse(await readFile(path.join(folder, 'model_index.json'), 'utf8'));
    await writeFile(
      path.join(folder, 'model_index.json'),
      JSON.stringify({ ...index, vqvae: [null, null], vae: index.vqvae }),
    );
    await expect(open()).rejects.toThrow(/names the component 'vae'.*missing/);
    await expect(open()).rejects.toThrow(FileFormatError);
    await writeFile(path.join(folder, 'model_index.json'), JSON.stringify({ ...index, vqvae: [null, null] }));
    const plain = await open();
    await expect(plain({ ...quick, output_type: 'latent' })).rejects.toThrow(
      /'latent' is for pipelines of latent diffusion/,
    );
    await expect(plain({ ...quick, output_type: 'latent' })).rejects.toThrow(InvalidArgumentError);
    await plain.dispose();
  });
});
