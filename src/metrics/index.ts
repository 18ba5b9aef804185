export * from '../evaluation/extractors/index.ts';
export * from '../evaluation/index.ts';
export { FeatureStatistics, type GaussianStatistics, mergeStatistics } from './frechet/feature-statistics.ts';
export { type FrechetOptions, frechetDistance } from './frechet/fid.ts';
export { readStatistics, StatisticsFileError, writeStatistics } from './frechet/statistics-file.ts';
export * from './isotropy/isotropy.ts';
export * from './isotropy/predicted-noise.ts';
export * from './kernel/inception-score.ts';
export { type KernelDistance, type KernelDistanceOptions, kernelDistance } from './kernel/kid.ts';
export type { BlockProducts } from './linalg/block-products.ts';
export type { Prdc } from './prdc/prdc.ts';
export {
  type PrdcOnDeviceOptions as PrdcOptions,
  precisionRecallDensityCoverageOnDevice as precisionRecallDensityCoverage,
} from './prdc/prdc-on-device.ts';
