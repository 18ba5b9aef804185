import path from 'node:path';
import { writeCacheFile } from '../../datasets/images/cache-file.ts';
import type { ImageSet } from '../../datasets/images/image-set.ts';
import { metrics } from '../../metrics/registry.ts';
import { deviceOptions, resolveDevice } from '../../runtime/device.ts';
import { type GivenScheduler, isScheduler } from '../../schedulers/registry.ts';
import { isImageSet } from '../../trainers/data/samples.ts';
import type { TrainerRun } from '../../trainers/trainer-callback.ts';
import { extractors, splitLayer } from '../extractors/registry.ts';
import type { CheckedOptions, EvaluationCallbackOptions } from './callback-options.ts';
import type { SnapshotMetrics, SnapshotSettings } from './evaluation-process.ts';

const IMAGES_FILE = '.training-images';
const CONDITIONS_FILE = '.conditions';
/** The training images, and what a model is given beside them, which the process of the evaluations reads. */
export const SNAPSHOT_FILES = [IMAGES_FILE, CONDITIONS_FILE];

/** What the process of the evaluations is told. @param directory where to write the images that it needs. */
export async function snapshotSettings(
  { metrics, scheduler, import: imports }: EvaluationCallbackOptions,
  { num_inference_steps, eta, guidance_scale, seed, device, device_id, samples }: CheckedOptions,
  { train_dataset, condition_dataset }: Pick<TrainerRun, 'train_dataset' | 'condition_dataset'>,
  directory: string,
): Promise<SnapshotSettings> {
  const images = isImageSet(train_dataset);
  const conditions = condition_dataset && path.join(directory, CONDITIONS_FILE);
  if (conditions) await writeImages(condition_dataset, conditions);
  return {
    real: images
      ? await imageSettings(train_dataset, metrics && path.join(directory, IMAGES_FILE))
      : { kind: 'points', points: train_dataset },
    conditions,
    samples: samples ?? (images ? 64 : 2000),
    metrics,
    num_inference_steps,
    scheduler: plainScheduler(scheduler),
    eta,
    guidance_scale,
    classes: images ? [...new Set(train_dataset.labels)].sort((a, b) => a - b) : [],
    seed,
    device: deviceOptions(await resolveDevice(device, { samples: images ? 'images' : 'points', device_id })),
    imports: [imports ?? []].flat(),
    registered: registeredHere(metrics),
  };
}

/** The names that the other process must find registered. */
function registeredHere(given: SnapshotMetrics | undefined): SnapshotSettings['registered'] {
  const specs = [given?.extractor, given?.logits_extractor].filter((spec) => spec !== undefined);
  return {
    metrics: (given?.metrics ?? []).filter((name) => metrics.find(name)),
    extractors: specs.map((spec) => splitLayer(spec)[0]).filter((name) => extractors.find(name)),
  };
}

/** The other process measures against a file of the images, which may be too many to send. */
async function imageSettings(set: ImageSet, file: string | undefined): Promise<SnapshotSettings['real']> {
  if (file) await writeImages(set, file);
  return { kind: 'images', file, gridScale: Math.max(1, Math.round(64 / set.width)) };
}

async function writeImages(set: ImageSet, file: string): Promise<void> {
  const { name, count, height, width, channels, labels } = set;
  const images = async function* () {
    for (let i = 0; i < count; i++)
      yield { source: `${i}`, label: labels?.[i], pixels: new Uint8Array(set.pixels(i)), height, width };
  };
  await writeCacheFile(file, { name, height, width, channels, randomCrop: false }, images());
}

/** As another process can be given it: a scheduler by its config. */
function plainScheduler(scheduler: GivenScheduler | undefined) {
  if (scheduler === undefined || typeof scheduler === 'string') return scheduler;
  return isScheduler(scheduler) ? scheduler.toConfig() : scheduler;
}
