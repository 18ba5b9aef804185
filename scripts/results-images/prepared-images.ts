// Images as one file of bytes with a header beside it, so that a machine without the network and without a decoder can train on
// them.
import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { type ImageSet, imagesFromArray, loadImages } from '../../src/datasets/index.ts';
import { ConfigError } from '../../src/errors.ts';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { readJsonFile, stringifySorted } from '../../src/files/json.ts';
import { exists } from '../../src/files/regular-file.ts';
import * as z from '../../src/zod.ts';
import type { StudySet } from './study.ts';

const side = z.int().check(z.gte(1));
const headerSchema = z.strictObject({
  name: z.string(),
  count: side,
  height: side,
  width: side,
  channels: z.union([z.literal(1), z.literal(3)]),
  /** SHA-256 of the bytes. */
  sha256: z.string(),
});

/**
 * The images of a set, from `<folder>/<name>.u8`, [count, height, width, channels], and `<name>.json`. Where they are not there,
 * they are loaded and written.
 *
 * @throws {ConfigError} when the files do not fit together, or to the set.
 */
export async function preparedImages(folder: string, set: StudySet): Promise<ImageSet> {
  const header = path.join(folder, `${set.name}.json`);
  const bytes = path.join(folder, `${set.name}.u8`);
  if (!(await exists(header))) await prepare(set, header, bytes);
  const { sha256, count, ...format } = await readJsonFile(header, headerSchema);
  const pixels = await readFile(bytes);
  if (sha256Of(pixels) !== sha256 || pixels.length !== count * format.height * format.width * format.channels)
    throw new ConfigError(`${bytes} is not the file that ${header} describes: remove both`);
  if (format.height !== set.resolution || format.channels !== set.channels)
    throw new ConfigError(
      `${header} has images of ${format.height}x${format.width}x${format.channels}, but the study takes ${set.resolution}x${set.resolution}x${set.channels}: remove it and ${bytes}`,
    );
  return imagesFromArray(pixels, format);
}

async function prepare({ source, resolution, channels }: StudySet, header: string, bytes: string): Promise<void> {
  const { count, height, width, pixels } = await loadImages(source, { resolution, channels });
  const data = Buffer.concat(Array.from({ length: count }, (_, i) => Uint8Array.from(pixels(i))));
  await mkdir(path.dirname(header), { recursive: true });
  await writeFileAtomic(bytes, data);
  const description = { name: source, count, height, width, channels, sha256: sha256Of(data) };
  await writeFileAtomic(header, stringifySorted(description));
}

function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
