export type { ClassOptions } from './guidance.ts';
export type { ImageBytes } from './image-output.ts';
export * from './images.ts';
export type { ImagePipelineOptions, PipelineOptions } from './load.ts';
export { pipeline } from './pipeline.ts';
export * from './points.ts';
export type { SamplingOptions, StepCallback, StepCallbackResult } from './sampling-options.ts';
