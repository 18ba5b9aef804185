import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { RawImage, Tensor } from '@huggingface/transformers';
import { beforeAll, describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../../src/errors.ts';
import type {
  ImageGenerationOptions,
  UnconditionalImageGenerationPipeline,
} from '../../../src/pipelines/image-pipeline.ts';
import { pipeline } from '../../../src/pipelines/pipeline.ts';
import { SampleStreams } from '../../../src/random/sample-streams.ts';
import { DDIMInverseScheduler } from '../../../src/schedulers/solvers/ddim-inverse.ts';
import { temporaryFolder } from '../saved-pipeline.ts';
import { saveUNet } from '../saved-unet.ts';

const SIZE = 8;
/** A grey picture with every level in it, and a mask whose right half is white. */
const picture = new RawImage(
  Uint8Array.from({ length: SIZE * SIZE }, (_, i) => i * 4),
  SIZE,
  SIZE,
  1,
);
const rightHalf = new RawImage(
  Uint8Array.from({ length: SIZE * SIZE }, (_, i) => (i % SIZE < 4 ? 0 : 255)),
  SIZE,
  SIZE,
  1,
);
const bytes = (images: RawImage | readonly RawImage[]) => [images].flat().map(({ data }) => [...data]);

let folder: string;
let file: string;
let generate: UnconditionalImageGenerationPipeline;
beforeAll(async () => {
  folder = await temporaryFolder();
  await saveUNet(path.join(folder, 'pipeline'));
  generate = await pipeline('unconditional-image-generation', path.join(folder, 'pipeline'), { device: 'cpu' });
  file = path.join(folder, 'picture.png');
  await picture.save(file);
  return () => generate.dispose();
});

const fast = { scheduler: 'dpm++', num_inference_steps: 5, seed: 3 } as const;

it('gives its noise back, and draws the same images from it', async () => {
  const { images, latents } = await generate({ ...fast, batch_size: 18, return_latents: true });
  expect(latents.dims).toEqual([18, 1, SIZE, SIZE]);
  expect(latents.data).toEqual(new SampleStreams(3, 18, 64).fillNormal(new Float32Array(18 * 64)));
  expect(bytes(images)).toEqual(bytes(await generate({ ...fast, batch_size: 18 })));
  expect(bytes(await generate({ ...fast, batch_size: 18, latents, seed: 99 }))).toEqual(bytes(images));
  const { images: tensor } = await generate({ ...fast, return_latents: true, output_type: 'tensor' });
  expect(tensor.dims).toEqual([1, 1, SIZE, SIZE]);
  const one = new Tensor('float32', (latents.data as Float32Array).slice(17 * 64), [1, 1, SIZE, SIZE]);
  expect(bytes(await generate({ ...fast, latents: one }))).toEqual([bytes(images)[17]]);
});

it('draws 32 as one by one', async () => {
  const options = { ...fast, num_inference_steps: 3, image: picture, mask_image: rightHalf };
  const together = await generate({ ...options, batch_size: 32 });
  const singles: number[][] = [];
  for await (const { data } of generate.batches({ ...options, count: 32, batch_size: 1 })) singles.push([...data]);
  expect(singles).toEqual(bytes(together));
});

it('interpolates between two images', async () => {
  const [first, last] = [await generate({ ...fast, seed: 1 }), await generate({ ...fast, seed: 2 })];
  const { seed: _, ...options } = fast;
  const frames = await generate.interpolate(1, 2, 4, options);
  expect(frames).toHaveLength(4);
  expect(bytes(frames[0] ?? [])).toEqual(bytes(first));
  expect(bytes(frames[3] ?? [])).toEqual(bytes(last));
  expect(bytes(frames[1] ?? [])).not.toEqual(bytes(first));
});

describe('a given image', () => {
  it('is a RawImage, a path, a URL or a Blob', async () => {
    const url = pathToFileURL(file);
    const blob = new Blob([readFileSync(file)]);
    const data = `data:image/png;base64,${readFileSync(file).toString('base64')}`;
    for (const image of [picture, file, url, url.href, blob, data])
      expect(bytes(await generate({ ...fast, image, strength: 0 }))).toEqual(bytes(picture));
    const list = await generate({ ...fast, batch_size: 2, image: [picture, rightHalf], strength: 0 });
    expect(bytes(list)).toEqual(bytes([picture, rightHalf]));
  });

  it('is taken when the call is made', async () => {
    const own = picture.clone();
    const call = generate({ ...fast, image: own, strength: 0 });
    own.data.fill(0);
    expect(bytes(await call)).toEqual(bytes(picture));
  });

  it('is brought to the size of the model, in colour too', async () => {
    const large = new RawImage(new Uint8Array(24 * 16 * 3).fill(77), 24, 16, 3);
    expect(bytes(await generate({ ...fast, image: large, strength: 0 }))).toEqual([Array(64).fill(77)]);
  });

  it.each(['ddpm', 'dpm++', 'euler', 'heun'])('keeps what a mask keeps to the level, with %s', async (scheduler) => {
    const options = { scheduler, num_inference_steps: 6, jump_length: 2, jump_n_sample: 2, batch_size: 2 };
    const images = bytes(await generate({ ...options, image: picture, mask_image: rightHalf }));
    expect(images).toHaveLength(2);
    for (const image of images) for (let i = 0; i < 64; i++) if (i % SIZE < 4) expect(image[i]).toBe(picture.data[i]);
    expect(images[0]).not.toEqual(images[1]);
  });

  it('gives a folder of images, which a call with another image is refused for', async () => {
    const out = path.join(folder, 'edited');
    const options = { ...fast, image: file, strength: 0.5, count: 2 };
    const files = await generate.toFolder(out, options);
    const drawn = await generate({ ...fast, image: picture, strength: 0.5, batch_size: 2 });
    const written = (await RawImage.read(files[1] ?? '')).grayscale();
    expect(bytes(written)).toEqual(bytes(drawn).slice(1));
    await expect(generate.toFolder(out, { ...options, image: rightHalf })).rejects.toThrow('edit_sha256');
    await expect(generate.toFolder(out, { ...options, strength: 0.4 })).rejects.toThrow('strength 0.5 there');
  });
});

it('calls at once equal calls one after the other, and an aborted one leaves nothing behind', async () => {
  const call = (seed: number, more: Partial<ImageGenerationOptions> = {}) =>
    generate({ ...fast, num_inference_steps: 8, image: picture, strength: 0.7, ...more, seed });
  const inTurn = [bytes(await call(1)), bytes(await call(2))];
  const stopped = call(3, { signal: AbortSignal.abort(new Error('enough')) });
  const [first, second] = await Promise.all([call(1), call(2), expect(stopped).rejects.toThrow('enough')]);
  expect([bytes(first), bytes(second)]).toEqual(inTurn);
});

it('inverts images to the noise that DDIM draws them from', async () => {
  const latents = await generate.invert([picture, rightHalf], { num_inference_steps: 3 });
  expect(latents.dims).toEqual([2, 1, SIZE, SIZE]);
  const single = await generate.invert(file, { num_inference_steps: 3 });
  expect(single.data).toEqual(latents.data.slice(0, 64));
});

it('inverts with the class and the guidance of the call that draws again', async () => {
  const classes = path.join(folder, 'classes');
  await saveUNet(classes, { num_class_embeds: 4 });
  const conditional = await pipeline('unconditional-image-generation', classes, { device: 'cpu' });
  const scheduler = new DDIMInverseScheduler({ clip_sample: false });
  scheduler.setTimesteps(2);
  let sample = Float32Array.from(picture.data, (byte) => byte / 127.5 - 1);
  for (const timestep of scheduler.timesteps) {
    const [own, none] = [
      await conditional.model.predict(sample, timestep, [1]),
      await conditional.model.predict(sample, timestep, [3]),
    ];
    const guided = none.map((u, i) => u + 2.5 * ((own[i] ?? Number.NaN) - u));
    sample = scheduler.step(guided, timestep, sample).prev_sample.slice();
  }
  const options = { class_labels: 1, guidance_scale: 2.5, num_inference_steps: 2 };
  const { data } = await conditional.invert(picture, options);
  for (const [i, value] of sample.entries()) expect(data[i]).toBeCloseTo(value, 4);
  await expect(conditional.invert(picture)).rejects.toThrow('give class_labels');
  await conditional.dispose();
});

describe('wrong input is refused before any work', () => {
  const refused = async (options: unknown, message: string) => {
    const steps: number[] = [];
    const callback_on_step_end = (step: number) => void steps.push(step);
    await expect(generate({ callback_on_step_end, ...(options as ImageGenerationOptions) })).rejects.toThrow(
      expect.objectContaining({ constructor: InvalidArgumentError, message: expect.stringContaining(message) }),
    );
    expect(steps).toEqual([]);
  };

  it('in the options', async () => {
    const image = picture;
    await refused({ image, strength: -0.1 }, 'strength is -0.1, but must be in [0, 1]');
    await refused({ image, strength: 2 }, 'strength is 2');
    await refused({ image: 5 }, 'must be a RawImage, the path or URL');
    await refused({ image: '' }, 'must be a RawImage');
    await refused({ image: [picture, picture] }, 'image is a list of 2, but 1 images');
    await refused({ mask_image: picture }, 'without image');
    await refused({ image, jump_length: 2 }, 'without mask_image');
    await refused({ latents: new Float32Array(63) }, 'must have [1, 1, 8, 8]');
    await refused({ latents: new Float32Array(64).fill(Number.POSITIVE_INFINITY) }, 'value 0 is Infinity');
    await expect(generate.invert([])).rejects.toThrow('a list of them');
  });

  it('in the images', async () => {
    const image = picture;
    const small = new RawImage(new Uint8Array(16), 4, 4, 1);
    await refused({ image, mask_image: small }, 'mask_image is 4x4, but the image 8x8');
    await refused({ image: path.join(folder, 'none.png') }, 'none.png');
    const text = path.join(folder, 'text.png');
    writeFileSync(text, 'not an image');
    await refused({ image: text }, 'cannot be read');
    await refused({ image: new Blob(['no image']) }, 'cannot be read');
    await refused({ image: new RawImage(new Uint8Array(3), 4, 4, 1) }, '4x4 with 1 channels, but has 3 values');
  });
});
