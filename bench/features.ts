import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { resolveExtractor } from '../src/evaluation/extractors/registry.ts';
import { passOver } from '../src/evaluation/feature-pass.ts';
import { openImages, randomPart } from '../src/evaluation/image-sources.ts';
import {
  type Measurement,
  measure,
  printProcessorRatio,
  printRatio,
  requirePython,
  runPairs,
  startReference,
} from './harness.ts';
import { writePhotos } from './photos.ts';

/** Five pairs take about two minutes on two quiet cores. The ratio does not depend on the number. */
const COUNT = 128;
const BATCH_SIZE = 32;
const WORKERS = 2;
const SIDE = 299;
/** Relative to the root of the mean square of the features; both sides compute in float32. */
const MAX_DIFFERENCE = 1e-3;

/**
 * Features of Inception v3 from PNG files: decoding, antialiased resize, network. The weights are random, and those of both sides.
 *
 * @param argv how many files; default 128.
 */
export async function run([count = String(COUNT)]: readonly string[]): Promise<void> {
  requirePython(['torch', 'torchvision', 'PIL']);
  const folder = await mkdtemp(path.join(tmpdir(), 'features-'));
  const photos = path.join(folder, 'photos');
  const [weights, features] = [path.join(folder, 'inception.pth'), path.join(folder, 'features.f32')];
  await mkdir(photos);
  await writePhotos(photos, Number(count), 'png');
  const reference = startReference(fileURLToPath(new URL('./features_reference.py', import.meta.url)));
  try {
    await reference.request({ command: 'weights', path: weights });
    const extractor = await resolveExtractor(weights, { batch_size: BATCH_SIZE });
    let ours: Float32Array | undefined;
    const result = await runPairs({
      name: 'features',
      ours: () =>
        measure(async () => {
          ours = await featuresOf(photos, extractor);
        }),
      reference: () =>
        reference.request<Measurement>({
          command: 'extract',
          folder: photos,
          batch_size: BATCH_SIZE,
          workers: WORKERS,
          path: features,
        }),
    });
    await extractor.dispose();
    if (ours) requireEqual(ours, new Float32Array((await readFile(features)).buffer));
    printProcessorRatio(result);
    printRatio('features', result.ratio);
  } finally {
    reference.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function featuresOf(
  folder: string,
  extractor: Awaited<ReturnType<typeof resolveExtractor>>,
): Promise<Float32Array> {
  const select = randomPart(undefined, 0);
  const warn = (message: string) => console.warn(message);
  const images = await openImages(folder, { select, resolution: [SIDE, SIDE], split: undefined, strict: true, warn });
  const uses = [{ extractor, statistics: false, features: true }];
  const [result] = await passOver(images, uses, { batchSize: BATCH_SIZE, channels: 3 });
  return result?.features ?? new Float32Array();
}

function requireEqual(ours: Float32Array, reference: Float32Array): void {
  let [difference, squares] = [0, 0];
  for (let i = 0; i < reference.length; i++) {
    difference = Math.max(difference, Math.abs((ours[i] ?? Number.NaN) - (reference[i] as number)));
    squares += (reference[i] as number) ** 2;
  }
  const relative = difference / Math.sqrt(squares / reference.length);
  console.log(`${reference.length} features differ by at most ${relative.toExponential(1)} of their size`);
  if (!(relative <= MAX_DIFFERENCE)) throw new Error('the features of both sides differ: the times do not compare');
}
