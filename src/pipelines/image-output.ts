// Images as bytes, as PNG files, and as a folder of PNG files with a record of how they were made.

import { mkdir, readdir } from '#platform/fs';
import { createHash } from '#platform/hash';
import { encodePng as encodePixels } from '#platform/image-codec';
import * as path from '#platform/path';
import { GENERATION_RECORD_FILE } from '../datasets/images/sources/image-source.ts';
import { InvalidArgumentError } from '../errors.ts';
import { writeFileAtomic } from '../files/atomic.ts';
import { type JsonObject, type JsonValue, readJsonFile, stringifySorted } from '../files/json.ts';
import { isFile } from '../files/regular-file.ts';
import * as z from '../zod.ts';
import type { Edit } from './editing/edit.ts';
import type { ClassCall } from './guidance.ts';
import type { SamplingCall } from './sampling-options.ts';

/** Images as bytes, [count, height, width, channels]. */
export interface ImageBytes {
  /** The bytes, 0 to 255, image by image and row by row. */
  readonly data: Uint8Array;
  /** Images. */
  readonly count: number;
  /** Rows of an image. */
  readonly height: number;
  /** Pixels of a row. */
  readonly width: number;
  /** Bytes of a pixel: 1 is grey, 3 are red, green, blue. */
  readonly channels: number;
}

/** Samples in [-1, 1], [count, channels, height, width], as bytes: clipped, and rounded as diffusers does. */
export function toImageBytes(
  samples: Float32Array,
  [channels = 1, height = 1, width = 1]: readonly number[],
): ImageBytes {
  const pixels = height * width;
  const count = samples.length / (channels * pixels);
  const data = new Uint8Array(samples.length);
  for (let i = 0; i < count; i++)
    for (let c = 0; c < channels; c++)
      for (let p = 0; p < pixels; p++) {
        const value = samples[(i * channels + c) * pixels + p] as number;
        const unit = Math.min(Math.max(value / 2 + 0.5, 0), 1);
        data[(i * pixels + p) * channels + c] = Math.round(unit * 255);
      }
  return { data, count, height, width, channels };
}

/** One image of 1 to 4 channels, [height, width, channels], as a PNG file. */
export function encodePng(
  pixels: Uint8Array,
  { height, width, channels }: Pick<ImageBytes, 'height' | 'width' | 'channels'>,
): Promise<Uint8Array> {
  return encodePixels({ pixels, height, width, channels });
}

/** Draws images `first` .. `first + count - 1` of a run. */
export type DrawImages = (first: number, count: number, onProgress: (fraction: number) => void) => Promise<ImageBytes>;

/** The images that a folder shall have, and how many of them are drawn and written at a time. */
interface FolderCall {
  readonly count: number;
  readonly batch_size: number;
  readonly share: readonly [index: number, shares: number] | undefined;
  readonly onProgress: ((fraction: number) => void) | undefined;
  readonly signal: AbortSignal | undefined;
}

/**
 * Writes the images `000000.png`, `000001.png`, ... that the folder does not have yet. An image appears whole or
 * not at all and depends on the seed and its number alone, so that a call that was stopped can be repeated.
 *
 * @returns the paths of all images, or of those of the share.
 * @throws {InvalidArgumentError} when the folder is a file, or holds images of other settings.
 */
export async function generateIntoFolder(
  folder: string,
  { count, batch_size, share, onProgress, signal }: FolderCall,
  record: GenerationRecord,
  draw: DrawImages,
): Promise<string[]> {
  if (await isFile(folder)) throw new InvalidArgumentError(`${folder} is a file, but images need a folder`);
  await mkdir(folder, { recursive: true });
  await claimFolder(folder, record, (name) => /^\d{6,}\.png$/.test(name));
  const [begin, end] = batchesOfShare(count, batch_size, share);
  const files = Array.from({ length: count }, (_, i) => path.join(folder, `${String(i).padStart(6, '0')}.png`));
  for (let first = begin; first < end; first += batch_size) {
    signal?.throwIfAborted();
    onProgress?.((first - begin) / (end - begin));
    const group = files.slice(first, Math.min(first + batch_size, end));
    const present = await Promise.all(group.map(isFile));
    if (present.every(Boolean)) continue;
    const images = await draw(first, group.length, (fraction) =>
      onProgress?.((first - begin + fraction * group.length) / (end - begin)),
    );
    await writeImages(group, images);
  }
  onProgress?.(1);
  return files.slice(begin, end);
}

/**
 * The samples [begin, end) of share i (from 1) of n: whole batches, so that a sample stands beside the same others as without
 * shares, whose rounding it may depend on.
 */
export function batchesOfShare(
  count: number,
  batchSize: number,
  [index, shares]: readonly [index: number, shares: number] = [1, 1],
): [begin: number, end: number] {
  const batches = Math.ceil(count / batchSize);
  const [begin, end] = [index - 1, index].map((share) => Math.floor((share * batches) / shares) * batchSize);
  return [Math.min(count, begin ?? 0), Math.min(count, end ?? count)];
}

async function writeImages(files: readonly string[], images: ImageBytes): Promise<void> {
  const size = images.height * images.width * images.channels;
  for (const [i, file] of files.entries()) {
    const pixels = images.data.subarray(i * size, (i + 1) * size);
    await writeFileAtomic(file, await encodePng(pixels, images));
  }
}

/** All that decides what the images of a folder look like. Lists are by image. */
export type GenerationRecord = JsonObject & {
  model_sha256: string;
  autoencoder_sha256?: string;
  scheduler: JsonObject;
  num_inference_steps: number;
  seed: number | number[];
  eta: number;
  use_clipped_model_output?: boolean;
  noise_scale?: number[];
  edit_sha256?: string;
  strength?: number;
  jump_length?: number;
  jump_n_sample?: number;
  guidance_scale: number;
  class_labels: number | number[] | null;
  condition_sha256?: string;
};

/**
 * @param class_labels of all images. @param sha256 of the model, and of what decodes its latents.
 */
export function generationRecord(
  call: SamplingCall &
    Pick<ClassCall, 'guidance_scale'> & { readonly condition: { readonly sha256: string } | undefined },
  class_labels: GenerationRecord['class_labels'],
  sha256: { readonly model: string; readonly autoencoder: string | undefined },
): GenerationRecord {
  const { scheduler, num_inference_steps, seed, eta, noiseScale, edit, guidance_scale, condition } = call;
  return {
    model_sha256: sha256.model,
    ...(sha256.autoencoder === undefined ? {} : { autoencoder_sha256: sha256.autoencoder }),
    scheduler: scheduler.toConfig(),
    num_inference_steps,
    seed: typeof seed === 'number' ? seed : [...seed],
    eta,
    ...(call.use_clipped_model_output ? { use_clipped_model_output: true } : {}),
    ...(noiseScale ? { noise_scale: [...noiseScale] } : {}),
    ...(edit ? recordOf(edit) : {}),
    guidance_scale,
    class_labels,
    ...(condition ? { condition_sha256: condition.sha256 } : {}),
  };
}

/** Images and mask by their checksum. */
function recordOf({ samples, mask, strength, jump_length, jump_n_sample }: Edit) {
  const edit_sha256 = createHash('sha256')
    .update(samples)
    .update(mask ?? '')
    .digest('hex');
  return { edit_sha256, strength, ...(mask ? { jump_length, jump_n_sample } : {}) };
}

const MAX_RECORD_BYTES = 512 * 1024 * 1024;

/**
 * Writes the record of a folder that is to be filled, or compares it with the one there, so that no folder holds
 * images of two models or two settings. Lists may have become longer or shorter with the number of images.
 *
 * @param isImage tells the files of an image from others.
 * @throws {InvalidArgumentError} that lists what differs, or when there are images without a record.
 */
async function claimFolder(
  folder: string,
  record: GenerationRecord,
  isImage: (name: string) => boolean,
): Promise<void> {
  const file = path.join(folder, GENERATION_RECORD_FILE);
  const names = await readdir(folder);
  if (!names.includes(GENERATION_RECORD_FILE)) {
    const image = names.find(isImage);
    if (image !== undefined)
      throw new InvalidArgumentError(
        `${path.join(folder, image)} is there already, but no ${GENERATION_RECORD_FILE} that says how it was made: choose another folder`,
      );
    await writeFileAtomic(file, stringifySorted(record));
    return;
  }
  const known = (await readJsonFile(file, z.record(z.string(), z.unknown()), {
    maxBytes: MAX_RECORD_BYTES,
  })) as Record<string, JsonValue>;
  const [there, here] = [settings(known), settings(record)];
  const differing = [...new Set([...here.keys(), ...there.keys()])].filter(
    (key) => !sameSetting(there.get(key), here.get(key)),
  );
  if (differing.length > 0) {
    const list = differing.map((key) => `${key} ${brief(there.get(key))} there, ${brief(here.get(key))} here`);
    throw new InvalidArgumentError(
      `${folder} holds images made with other settings (${list.join('; ')}): use the same, or choose another folder`,
    );
  }
  if (longerLists(record, known)) await writeFileAtomic(file, stringifySorted(record));
}

/** By name, those of the scheduler one by one. */
function settings({ scheduler, ...others }: Record<string, JsonValue>): Map<string, JsonValue> {
  const ofScheduler = Object.entries((scheduler ?? {}) as JsonObject);
  return new Map([
    ...Object.entries(others),
    ...ofScheduler
      .filter(([key]) => key !== '_diffusers_version')
      .map(([key, value]) => [`scheduler.${key}`, value] as const),
  ]);
}

function sameSetting(known: JsonValue | undefined, current: JsonValue | undefined): boolean {
  if (Array.isArray(known) && Array.isArray(current)) {
    const common = Math.min(known.length, current.length);
    return known.slice(0, common).every((value, i) => value === current[i]);
  }
  return canonical(known) === canonical(current);
}

function longerLists(record: GenerationRecord, known: Record<string, JsonValue>): boolean {
  return Object.entries(record).some(
    ([key, value]) => Array.isArray(value) && value.length > (known[key] as JsonValue[]).length,
  );
}

function canonical(value: JsonValue | undefined): string {
  return value === undefined ? 'absent' : stringifySorted(value);
}

function brief(value: JsonValue | undefined): string {
  const text = value === undefined ? 'absent' : JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}
