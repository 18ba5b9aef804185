import path from 'node:path';
import { writeCacheFile } from '../../datasets/images/cache-file.ts';
import type { ImageSet } from '../../datasets/images/image-set.ts';
import type { PointSet } from '../../datasets/points/points.ts';
import { metrics } from '../../metrics/registry.ts';
import { deviceOptions, resolveDevice } from '../../runtime/device.ts';
import { type GivenScheduler, isScheduler } from '../../schedulers/registry.ts';
import { isImageSet } from '../../trainers/data/samples.ts';
import { extractors, splitLayer } from '../extractors/registry.ts';
import type { CheckedOptions, EvaluationCallbackOptions } from './callback-options.ts';
import type { SnapshotMetrics, SnapshotSettings } from './evaluation-process.ts';

/** The training images, which the process of the evaluations reads. */
export const IMAGES_FILE = '.training-images';

/** What the process of the evaluations is told. @param directory where to write the training images, if it needs them. */
export async function snapshotSettings(
  { metrics, scheduler, import: imports }: EvaluationCallbackOptions,
  { num_inference_steps, eta, guidance_scale, seed, device, device_id, samples }: CheckedOptions,
  train_dataset: PointSet | ImageSet,
  directory: string,
): Promise<SnapshotSettings> {
  const images = isImageSet(train_dataset);
  return {
    real: images
      ? await imageSettings(train_dataset, metrics && path.join(directory, IMAGES_FILE))
      : { kind: 'points', points: train_dataset },
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
  const { name, count, height, width, channels, labels } = set;
  const images = async function* () {
    for (let i = 0; i < count; i++)
      yield { source: `${i}`, label: labels?.[i], pixels: new Uint8Array(set.pixels(i)), height, width };
  };
  if (file) await writeCacheFile(file, { name, height, width, channels, randomCrop: false }, images());
  return { kind: 'images', file, gridScale: Math.max(1, Math.round(64 / width)) };
}

/** As another process can be given it: a scheduler by its config. */
function plainScheduler(scheduler: GivenScheduler | undefined) {
  if (scheduler === undefined || typeof scheduler === 'string') return scheduler;
  return isScheduler(scheduler) ? scheduler.toConfig() : scheduler;
}
