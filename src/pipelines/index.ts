export type { ImageBytes } from './image-bytes.ts';
export type { ImageFolderOptions } from './image-folder.ts';
export { pipeline } from './pipeline.ts';
export * from './unconditional-image-generation.ts';
export * from './unconditional-point-generation.ts';
