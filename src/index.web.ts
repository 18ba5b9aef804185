// What a browser gets of the package: the same names as src/index.ts. What cannot work there says so when it is called.
import { NotInBrowserError } from './errors.ts';

export { useStore } from '#platform/fs';
export * from './autoencoders/index.ts';
export * from './datasets/index.ts';
export * from './errors.ts';
export { evaluate, evaluateShare, mergeEvaluation } from './evaluation/evaluate.ts';
export { convertExtractor } from './evaluation/extractors/convert-extractor.ts';
export { RawPixels } from './evaluation/extractors/feature-extractor.ts';
export { OnnxFeatures } from './evaluation/extractors/onnx-features.ts';
export { extractorsFolder } from './evaluation/extractors/published-extractors.ts';
export { extractors, resolveExtractor } from './evaluation/extractors/registry.ts';
export { imageStatistics } from './evaluation/image-statistics.ts';
export { EvaluationPartError } from './evaluation/parts/part.ts';
export { zipFolder } from './files/zip.ts';
export { env, RawImage, Tensor } from './hub/transformers.ts';
export * from './losses/index.ts';
export * from './metrics/index.ts';
export * from './models/index.ts';
export { ForwardContext } from './nn/context.ts';
export * from './pipelines/index.ts';
export { MemoryStore } from './platform/stores/memory-store.ts';
export { OpfsStore } from './platform/stores/opfs-store.ts';
export * from './plots/index.ts';
export { RandomStream, STREAM } from './random/random-stream.ts';
export { SampleStreams } from './random/sample-streams.ts';
export { Registry } from './registry.ts';
export * from './runtime/index.ts';
export * from './schedulers/index.ts';
export * from './trainers/index.ts';

/** A function or class of Node alone. */
function nodeOnly(name: string, why: string) {
  return function refused(): never {
    throw new NotInBrowserError(`${name} works in Node, not in a browser: ${why}`);
  };
}

export const perceptualPathLength = nodeOnly('perceptualPathLength', 'it reads weights of VGG16 from files');
export const EvaluationCallback = nodeOnly('EvaluationCallback', 'it evaluates in another process');
export const TransformersFeatures = nodeOnly(
  'TransformersFeatures',
  'weights that transformers.js has fetched have no checksum there. Give OnnxFeatures the .onnx file of the model',
);

export const sweep = nodeOnly('sweep', 'it starts other processes');
export const reportSweep = nodeOnly('reportSweep', 'it reads the folders of runs');
export const compareRuns = nodeOnly('compareRuns', 'it reads the folders of runs');

const pushAdvice = 'it reads a folder. Download the pipeline with zipFolder and push it from Node';
export const pushToHub = nodeOnly('pushToHub', pushAdvice);
export const pushPlan = nodeOnly('pushPlan', pushAdvice);
