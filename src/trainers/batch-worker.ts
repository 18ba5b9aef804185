import { parentPort, workerData } from 'node:worker_threads';
import { BatchSource, type BatchSpec } from './batch-source.ts';
import type { StepAnswer, StepRequest } from './prefetched-batches.ts';
import { imageSource } from './sample-source.ts';

/** The thread behind `PrefetchedBatches`: it draws what `BatchSource` draws, from pictures that come with a request. */
const spec = workerData as BatchSpec;
const size = spec.images.height * spec.images.width * spec.images.channels;
let pixels = new Uint8Array();
let next = 0;
const source = imageSource(
  {
    ...spec.images,
    skipped: [],
    // A batch asks for its pictures one after the other, in the order in which they were sent.
    pixels: () => {
      const begin = next * size;
      next += 1;
      return pixels.subarray(begin, begin + size);
    },
  },
  spec.augmentation,
);
const batches = new BatchSource(source, spec.batchSize, spec.trainTimesteps, spec.seed, spec.classes);

parentPort?.on('message', ({ step, pixels: received }: StepRequest) => {
  try {
    pixels = new Uint8Array(received);
    next = 0;
    const prepared = batches.steps(step, 1);
    const { clean, noise, timestep, classLabels } = prepared;
    const buffers = [clean, noise, timestep, ...(classLabels ? [classLabels] : [])].map(
      ({ buffer }) => buffer,
    );
    const answer: StepAnswer = { step, batches: prepared };
    parentPort?.postMessage(answer, buffers as ArrayBuffer[]);
  } catch (error) {
    const answer: StepAnswer = { step, error: error instanceof Error ? error.message : String(error) };
    parentPort?.postMessage(answer);
  }
});
parentPort?.postMessage('ready');
