import { parentPort, workerData } from 'node:worker_threads';
import type { SizedPixels } from '../../datasets/images/image-set.ts';
import { errorText, InvalidArgumentError } from '../../errors.ts';
import { BatchSource, type BatchSpec } from './batch-source.ts';
import type { StepAnswer, StepRequest } from './prefetched-batches.ts';
import { imageSource } from './sample-source.ts';

/** The thread behind `PrefetchedBatches`: it draws what `BatchSource` draws, from images that come with a request. */
const spec = workerData as BatchSpec;
let images: Iterator<SizedPixels> = [].values();

/** A batch asks for its images one after the other, in the order in which they were sent. */
function nextImage(): SizedPixels {
  const { value } = images.next();
  if (value) return value;
  throw new InvalidArgumentError('the batch has more samples than images were sent');
}

const source = imageSource(
  { ...spec.images, skipped: [], pixels: () => nextImage().pixels, uncropped: nextImage },
  spec.augmentation,
);
const batches = new BatchSource(source, spec.batchSize, spec.trainTimesteps, spec.seed, spec.classes);

parentPort?.on('message', ({ step, images: received }: StepRequest) => {
  try {
    images = received.values();
    const prepared = batches.steps(step, 1);
    const { clean, noise, timestep, classLabels } = prepared;
    const buffers = [clean, noise, timestep, ...(classLabels ? [classLabels] : [])].map(
      ({ buffer }) => buffer,
    );
    const answer: StepAnswer = { step, batches: prepared };
    parentPort?.postMessage(answer, buffers as ArrayBuffer[]);
  } catch (error) {
    const answer: StepAnswer = { step, error: errorText(error) };
    parentPort?.postMessage(answer);
  }
});
parentPort?.postMessage('ready');
