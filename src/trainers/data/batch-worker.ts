import { workerData } from 'node:worker_threads';
import type { ImageSet, SizedPixels } from '../../datasets/images/image-set.ts';
import { InvalidArgumentError } from '../../errors.ts';
import { serve } from '../../threads/channel.ts';
import type { HostBatch } from '../step/batch.ts';
import { type BatchSpec, BatchStream } from './batch-stream.ts';
import type { StepRequest } from './prefetched-batches.ts';
import { imageSamples } from './samples.ts';

/** The thread behind `PrefetchedBatches`: it draws what `BatchStream` draws, from images that come with a request. */
const spec = workerData as BatchSpec;
let images: Iterator<SizedPixels> = [].values();
let conditions: Iterator<SizedPixels> = [].values();

/** A batch asks for its images one after the other, in the order in which they were sent. */
function sentImages(described: BatchSpec['images'], sent: () => Iterator<SizedPixels>): ImageSet {
  const next = () => {
    const { value } = sent().next();
    if (value) return value;
    throw new InvalidArgumentError('the batch has more samples than images were sent');
  };
  return { ...described, skipped: [], pixels: () => next().pixels, uncropped: next };
}

const source = imageSamples(
  sentImages(spec.images, () => images),
  spec.augmentation,
  spec.condition && sentImages(spec.condition, () => conditions),
);
const batches = new BatchStream(source, spec);

serve<StepRequest, HostBatch>(
  ({ step, ...received }) => {
    images = received.images.values();
    conditions = received.conditions.values();
    return batches.steps(step, 1);
  },
  (batch) =>
    Object.values(batch).flatMap((part: HostBatch[keyof HostBatch]) => (part ? [part.buffer as ArrayBuffer] : [])),
);
