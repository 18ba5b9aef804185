import path from 'node:path';
import type { ImageSet } from '../../src/datasets/index.ts';
import { evaluate } from '../../src/evaluation/index.ts';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { readJsonFile, stringifySorted } from '../../src/files/json.ts';
import { exists } from '../../src/files/regular-file.ts';
import * as z from '../../src/zod.ts';

const count = z.int().check(z.gte(0));
export const copiesSchema = z.strictObject({ copied: count, memorised: count });
/** Drawn images that are a training image, pixel by pixel, and others as close to one as 1 % of new images would be. */
export type Copies = z.output<typeof copiesSchema>;

const COPIES_FILE = 'copies.json';

/** Counts the copies among the samples of a cell, in `copies.json` of its folder; pictures of them are in `sheets/`. */
export async function copiesOf(folder: string, samples: ImageSet, real: ImageSet): Promise<Copies> {
  const file = path.join(folder, COPIES_FILE);
  if (await exists(file)) return readJsonFile(file, copiesSchema);
  const { contact_sheets } = await evaluate({
    real,
    fake: samples,
    extractor: 'raw-pixels',
    metrics: ['prdc'],
    contact_sheets: path.join(folder, 'sheets'),
    device: 'cpu',
    // The caveat of raw pixels is about quality.
    on_warning: () => undefined,
  });
  const copies = copiesSchema.parse({ copied: contact_sheets?.copied, memorised: contact_sheets?.memorised });
  await writeFileAtomic(file, stringifySorted(copies));
  return copies;
}
