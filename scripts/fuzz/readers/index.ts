import type { Readers } from '../reader.ts';

const points = () => import('./points.ts');
const imageSets = () => import('./image-sets.ts');
const files = () => import('./files.ts');
const models = () => import('./models.ts');

/**
 * Every reader that is fuzzed. A new one is a line here, and its examples in a file beside this. The shares follow from
 * the cases a second, and from how much of a format is read by our own code.
 */
export const readers: Readers = {
  table: { share: 12, load: async () => (await points()).table },
  npy: { share: 12, load: async () => (await points()).npy },
  image: { share: 12, load: async () => (await import('./images.ts')).image },
  folder: { share: 5, load: async () => (await imageSets()).folder },
  archive: { share: 8, load: async () => (await import('./archives.ts')).archive },
  parquet: { share: 12, load: async () => (await imageSets()).parquet },
  idx: { share: 4, load: async () => (await imageSets()).idx },
  safetensors: { share: 10, load: async () => (await files()).safetensors },
  torch: { share: 10, load: async () => (await files()).torch },
  statistics: { share: 8, load: async () => (await files()).statistics },
  config: { share: 10, load: async () => (await files()).config },
  settings: { share: 5, load: async () => (await files()).settings },
  'onnx-draw': { share: 4, load: async () => (await models()).onnxDraw },
  'onnx-train': { share: 3, load: async () => (await models()).onnxTrain },
  'point-pipeline': { share: 2.5, load: async () => (await models()).pointPipeline },
  'image-pipeline': { share: 1.5, load: async () => (await models()).imagePipeline },
  checkpoint: { share: 1.5, load: async () => (await models()).checkpoint },
  'image-cache': { share: 4, load: async () => (await imageSets()).imageCache },
  cifar: { share: 3, load: async () => (await imageSets()).cifar },
};
