import { workerData } from 'node:worker_threads';
import { serve } from '../threads/channel.ts';
import { noiseStreams, startNoise } from './editing/latents.ts';
import { drawSteps, type NoiseRequest, type NoiseSpec } from './step-noise.ts';

/** The thread behind `stepNoise`: it draws what the streams of the call would draw. */
const spec = workerData as NoiseSpec;
const streams = noiseStreams(spec, spec.count, spec.size, spec.first);

serve<NoiseRequest, Float32Array>(
  (request) =>
    request === 'start'
      ? startNoise(spec, streams, spec.first)
      : drawSteps(streams, request, new Float32Array(request.length * spec.count * spec.size)),
  (noise) => [noise.buffer as ArrayBuffer],
);
