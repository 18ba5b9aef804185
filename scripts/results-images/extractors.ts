import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { loadImages } from '../../src/datasets/index.ts';
import { type FeatureExtractor, resolveExtractor } from '../../src/evaluation/index.ts';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { exists } from '../../src/files/regular-file.ts';
import { writeOnnx } from '../../src/graph/onnx/write.ts';
import type { Device } from '../../src/runtime/device.ts';
import { nsfwjsGraph, readNsfwjsInception } from '../tfjs-layers/nsfwjs.ts';
import type { StudySet } from './study.ts';

/** Makes the ONNX file that the images of a set are measured by, where it needs one that is not there. */
export async function prepareExtractor(folder: string, set: StudySet): Promise<void> {
  const file = fileOf(folder, set);
  if (set.extractor === 'raw-pixels' || (await exists(file))) return;
  await mkdir(folder, { recursive: true });
  await writeFileAtomic(file, await onnxOf(set));
}

async function onnxOf({ source, resolution, channels, extractor }: StudySet): Promise<Uint8Array> {
  if (extractor === 'nsfwjs-inception-v3') return writeOnnx(nsfwjsGraph(await readNsfwjsInception()));
  const { trainDigitFeatures } = await import('../../examples/digit-features.ts');
  const { onnx, accuracy } = await trainDigitFeatures(await loadImages(source, { resolution, channels }));
  console.log(`${extractor}: ${(100 * accuracy).toFixed(1)} % of the held-out digits are told right`);
  return onnx;
}

/** What the images of a set are measured by. The caller disposes of it. */
export function extractorOf(folder: string, set: StudySet, device: Device): Promise<FeatureExtractor> {
  const { resolution: height, resolution: width, channels, extractor } = set;
  const spec = extractor === 'raw-pixels' ? extractor : fileOf(folder, set);
  return resolveExtractor(spec, { device, image_shape: { height, width, channels } });
}

function fileOf(folder: string, { extractor }: StudySet): string {
  return path.join(folder, `${extractor}.onnx`);
}
