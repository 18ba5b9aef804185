export type { ImageBytes } from './image-bytes.ts';
export type { ImageFolderOptions } from './image-folder.ts';
export type { ImagePipelineOptions } from './image-model.ts';
export type { ImageGenerationOptions } from './image-options.ts';
export { pipeline } from './pipeline.ts';
export * from './unconditional-image-generation.ts';
export * from './unconditional-point-generation.ts';
