import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { RawImage } from '@huggingface/transformers';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { ImageSet } from '../../src/datasets/images/image-set.ts';
import { CheckpointError, ConfigError, DatasetError, InvalidArgumentError } from '../../src/errors.ts';
import { isoLoss } from '../../src/losses/index.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import { DDPMScheduler } from '../../src/schedulers/index.ts';
import { type BatchSpec, BatchStream } from '../../src/trainers/data/batch-stream.ts';
import { PrefetchedBatches } from '../../src/trainers/data/prefetched-batches.ts';
import { imageSamples } from '../../src/trainers/data/samples.ts';
import { Trainer, type TrainerOptions } from '../../src/trainers/index.ts';
import { tinyUNet } from '../models/tiny-unet.ts';
import { stripes } from './stripes.ts';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'iso-diffusion-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const args = {
  max_steps: 4,
  per_device_train_batch_size: 2,
  gradient_accumulation_steps: 2,
  random_flip: true,
  device: 'cpu',
  save_steps: 2,
} as const;
function trainerOf(name: string, changes: Partial<TrainerOptions> = {}): Trainer {
  return new Trainer({
    model: tinyUNet({ in_channels: 2 }),
    args: { ...args, output_dir: path.join(root, name) },
    train_dataset: stripes(),
    condition_dataset: negative(stripes()),
    loss: isoLoss({ lambda: 0.1 }),
    noise_scheduler: new DDPMScheduler(),
    ...changes,
  });
}

/** The same images with black and white exchanged, whatever is cut out of them. */
function negative(images: ImageSet, fingerprint = `not ${images.fingerprint}`): ImageSet {
  const turned = (pixels: Uint8Array) => pixels.map((value) => 255 - value);
  const { uncropped } = images;
  return {
    ...images,
    name: 'negatives',
    fingerprint,
    pixels: (index) => turned(images.pixels(index)),
    ...(uncropped ? { uncropped: (index) => ({ ...uncropped(index), pixels: turned(uncropped(index).pixels) }) } : {}),
  };
}

/** Images of which 5 x 6 pixels are kept, by different margins. */
function cropped(): ImageSet {
  const images = stripes();
  const uncropped = (index: number) => {
    const height = 6 + (index % 3);
    return { pixels: images.pixels(index).slice(0, height * 8), height, width: 8 };
  };
  return { ...images, height: 5, width: 6, uncropped };
}

describe('the conditions of a batch', () => {
  it.each([
    ['mirrored', stripes()],
    ['mirrored and cropped', cropped()],
  ])('belong to their images, and are %s alike', (_name, images) => {
    const samples = imageSamples(images, { random_flip: true }, negative(images));
    const { clean, condition } = new BatchStream(samples, { batchSize: 12, trainTimesteps: 10, seed: 1 }).steps(0, 3);
    expect(condition).toHaveLength(clean.length);
    clean.forEach((value, i) => {
      expect(condition?.[i]).toBeCloseTo(-value, 6);
    });
  });

  it('have the same bits where a worker prepares them', async () => {
    const source = () => {
      const samples = imageSamples(cropped(), { random_flip: true }, negative(cropped()));
      return new BatchStream(samples, { batchSize: 6, trainTimesteps: 10, seed: 5 });
    };
    const batches = source();
    const prefetched = new PrefetchedBatches(batches, batches.spec as BatchSpec);
    await prefetched.started;
    await prefetched.steps(0, 2);
    const prepared = vi.spyOn(batches, 'steps');
    expect(await prefetched.steps(2, 2)).toEqual(source().steps(2, 2));
    expect(prepared).not.toHaveBeenCalled();
    await prefetched.close();
  });

  it('must be as large as the images before a crop', () => {
    const other = {
      ...cropped(),
      uncropped: (index: number) => ({ pixels: stripes().pixels(index), height: 8, width: 8 }),
    };
    const batches = new BatchStream(imageSamples(cropped(), { random_flip: false }, other), { batchSize: 4, seed: 0 });
    expect(() => batches.steps(0, 1)).toThrow(DatasetError);
    expect(() => batches.steps(0, 1)).toThrow(/before its crop, but its condition in 'stripes' 8x8/);
  });
});

it('a model with a condition is trained, resumed to the same bits, saved, and draws', async () => {
  const whole = trainerOf('whole');
  await whole.train();
  const stopped = trainerOf('stopped', { args: { ...args, max_steps: 2, output_dir: path.join(root, 'stopped') } });
  await stopped.train();
  const resumed = trainerOf('stopped');
  await resumed.train({ resume_from_checkpoint: 'latest' });
  expect(resumed.weights()).toEqual(whole.weights());
  const other = trainerOf('stopped', { condition_dataset: negative(stripes(), 'others') });
  await expect(other.train({ resume_from_checkpoint: 'latest' })).rejects.toThrow(CheckpointError);
  await expect(other.train({ resume_from_checkpoint: 'latest' })).rejects.toThrow(/condition_dataset_sha256/);

  const folder = path.join(root, 'saved');
  await resumed.savePipeline(folder);
  const { isotropy } = JSON.parse(await readFile(path.join(folder, 'unet', 'isotropy.json'), 'utf8'));
  expect(isotropy).toBeGreaterThan(0);
  const generate = await pipeline('unconditional-image-generation', folder, { device: 'cpu' });
  const condition = new RawImage(stripes().pixels(0), 8, 8, 1);
  expect(await generate({ condition, num_inference_steps: 2, scheduler: 'ddim' })).toBeInstanceOf(RawImage);
  await generate.dispose();
  // The file alone says what it takes too.
  await resumed.exportOnnx(path.join(root, 'model.onnx'));
  const alone = await pipeline('unconditional-image-generation', path.join(root, 'model.onnx'), { device: 'cpu' });
  expect(alone.model.conditionShape).toEqual([1, 8, 8]);
  await alone.dispose();
}, 60_000);

it.each<[string, Partial<TrainerOptions>, RegExp]>([
  ['none', { condition_dataset: undefined }, /takes an image of 1 channels beside the sample: give condition_dataset/],
  ['of another count', { condition_dataset: stripes(15) }, /'stripes' has 15 images, but train_dataset 'stripes' 16/],
  [
    'of another size',
    { condition_dataset: { ...stripes(), width: 4 } },
    /has images of \[1, 8, 4\], but the model takes \[1, 8, 8\]/,
  ],
  [
    'with another crop',
    { condition_dataset: { ...stripes(), uncropped: (i) => ({ pixels: stripes().pixels(i), height: 8, width: 8 }) } },
    /cropped at random: load both with the same crop/,
  ],
  ['for a model that takes none', { model: tinyUNet() }, /the model takes nothing beside the sample/],
])('refuses conditions: %s', (name, changes, message) => {
  expect(() => trainerOf(name, changes)).toThrow(InvalidArgumentError);
  expect(() => trainerOf(name, changes)).toThrow(message);
});

describe('a model with an open size', () => {
  const open = { model: tinyUNet({ sample_size: null }), condition_dataset: undefined };

  it('takes that of the images, and is saved with it', async () => {
    const trainer = trainerOf('open', open);
    const folder = path.join(root, 'sized');
    await trainer.savePipeline(folder);
    const config = JSON.parse(await readFile(path.join(folder, 'unet', 'config.json'), 'utf8'));
    expect(config.sample_size).toEqual([8, 8]);
    const same = trainerOf('fixed', { model: tinyUNet(), condition_dataset: undefined });
    expect(trainer.weights()).toEqual(same.weights());
  });

  it('or that of the option, which must fit', () => {
    expect(() => trainerOf('other', { ...open, sample_size: 16 })).toThrow(/the model takes \[1, 16, 16\]/);
    expect(() => trainerOf('odd', { ...open, sample_size: 7 })).toThrow(ConfigError);
    expect(() => trainerOf('wrong', { ...open, sample_size: -1 })).toThrow(InvalidArgumentError);
    const large = tinyUNet({ sample_size: 64 });
    expect(() => trainerOf('large', { ...open, model: large, sample_size: 8 })).not.toThrow();
  });
});

describe('class labels that are not numbered', () => {
  const plain = { condition_dataset: undefined };

  it('may be numbers, which the labels of the images are', async () => {
    const labelled = trainerOf('numbers', { ...plain, model: tinyUNet({ class_embed_type: 'timestep' }) });
    const before = labelled.weights().get('class_embedding.linear_1.weight');
    await labelled.train();
    expect(labelled.weights().get('class_embedding.linear_1.weight')).not.toEqual(before);
    const model = tinyUNet({ class_embed_type: 'timestep' });
    expect(() => trainerOf('none', { ...plain, model, train_dataset: { ...stripes(), labels: undefined } })).toThrow(
      /takes a number as a class label, but the data set 'stripes' has no labels/,
    );
  });

  it('may not be vectors', () => {
    const model = tinyUNet({ class_embed_type: 'identity' });
    expect(() => trainerOf('vectors', { ...plain, model })).toThrow(/vectors of 32 numbers as class labels/);
  });

  it('leave out the conditions of images without a class', async () => {
    const labels = Int32Array.from({ length: 16 }, (_, i) => (i % 4 === 0 ? -1 : i % 2));
    const on_warning = vi.fn();
    const trainer = trainerOf('some', {
      model: tinyUNet({ in_channels: 2, num_class_embeds: 2 }),
      train_dataset: { ...stripes(), labels },
      on_warning,
    });
    expect(on_warning).toHaveBeenCalledWith(expect.stringContaining('4 of 16 images'));
    await trainer.train();
  });
});
