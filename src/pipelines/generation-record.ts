import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { InvalidArgumentError } from '../errors.ts';
import { writeFileAtomic } from '../files/atomic.ts';
import type { JsonObject, JsonValue } from '../files/json.ts';
import { readJsonFile, stringifySorted } from '../files/json.ts';

/** All that decides what the images of a folder look like. Lists are by image. */
export type GenerationRecord = JsonObject & {
  model_sha256: string;
  scheduler: JsonObject;
  num_inference_steps: number;
  seed: number | number[];
  eta: number;
  guidance_scale: number;
  class_labels: number | number[] | null;
};

export const RECORD_FILE = 'generation.json';
const MAX_RECORD_BYTES = 512 * 1024 * 1024;

/**
 * Writes the record of a folder that is to be filled, or compares it with the one there, so that no folder holds
 * images of two models or two settings. Lists may have become longer or shorter with the number of images.
 *
 * @param isImage tells the files of an image from others.
 * @throws {InvalidArgumentError} that lists what differs, or when there are images without a record.
 */
export async function claimFolder(
  folder: string,
  record: GenerationRecord,
  isImage: (name: string) => boolean,
): Promise<void> {
  const file = path.join(folder, RECORD_FILE);
  const names = await readdir(folder);
  if (!names.includes(RECORD_FILE)) {
    const image = names.find(isImage);
    if (image !== undefined)
      throw new InvalidArgumentError(
        `${path.join(folder, image)} is there already, but no ${RECORD_FILE} that says how it was made: choose another folder`,
      );
    await writeFileAtomic(file, stringifySorted(record));
    return;
  }
  const known = (await readJsonFile(file, z.record(z.string(), z.unknown()), {
    maxBytes: MAX_RECORD_BYTES,
  })) as Record<string, JsonValue>;
  const [there, here] = [settings(known), settings(record)];
  const differing = [...here.keys()].filter((key) => !sameSetting(there.get(key), here.get(key)));
  if (differing.length > 0) {
    const list = differing.map(
      (key) => `${key} ${brief(there.get(key))} there, ${brief(here.get(key))} here`,
    );
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
