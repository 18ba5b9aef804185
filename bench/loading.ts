import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadImages } from '../src/datasets/images/load-images.ts';
import { RandomStream } from '../src/random/random-stream.ts';
import { imageSamples } from '../src/trainers/data/samples.ts';
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

const COUNT = 2000;
const SIDE = 64;
const BATCH_SIZE = 64;
const WORKERS = 2;

/**
 * Epochs of photos in JPEG files as a network sees them: decoded, resized, cropped at the centre, mirrored at random. The
 * first writes the cache; the second opens it anew, as another run would. torchvision decodes in each.
 */
export async function run(): Promise<void> {
  requirePython(['torch', 'torchvision', 'PIL']);
  const folder = await mkdtemp(path.join(tmpdir(), 'loading-'));
  const [photos, cache_dir] = [path.join(folder, 'photos'), path.join(folder, 'cache')];
  await mkdir(photos);
  await writePhotos(photos, COUNT, 'jpeg');
  const reference = startReference(fileURLToPath(new URL('./loading_reference.py', import.meta.url)));
  const message = { folder: photos, side: SIDE, batch_size: BATCH_SIZE, workers: WORKERS };
  const epoch = async () => {
    const images = await loadImages(photos, { resolution: SIDE, cache_dir });
    const samples = imageSamples(images, { random_flip: true });
    const stream = new RandomStream(0);
    const length = images.channels * SIDE * SIDE;
    const batch = new Float32Array(BATCH_SIZE * length);
    for (const [i, index] of stream.permutation(images.count).entries()) {
      const place = (i % BATCH_SIZE) * length;
      samples.fill(index, batch.subarray(place, place + length), stream);
    }
  };
  try {
    for (const isFirst of [true, false]) {
      const name = isFirst ? 'loading-first' : 'loading-cached';
      const result = await runPairs({
        name,
        ours: async () => {
          if (isFirst) await rm(cache_dir, { recursive: true, force: true });
          return measure(epoch);
        },
        reference: () => reference.request<Measurement>(message),
      });
      printProcessorRatio(result);
      printRatio(name, result.ratio);
    }
  } finally {
    reference.close();
    await rm(folder, { recursive: true, force: true });
  }
}
