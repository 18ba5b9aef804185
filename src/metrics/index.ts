export type { BlockProducts } from './block-products.ts';
export * from './evaluation/index.ts';
export { FeatureStatistics, type GaussianStatistics, mergeStatistics } from './feature-statistics.ts';
export * from './features/index.ts';
export { type FrechetOptions, frechetDistance } from './fid.ts';
export * from './inception-score.ts';
export * from './isotropy.ts';
export { type KernelDistance, type KernelDistanceOptions, kernelDistance } from './kid.ts';
export type { Prdc } from './prdc.ts';
export {
  type PrdcOnDeviceOptions as PrdcOptions,
  precisionRecallDensityCoverageOnDevice as precisionRecallDensityCoverage,
} from './prdc-on-device.ts';
export * from './predicted-noise-isotropy.ts';
export { readStatistics, StatisticsFileError, writeStatistics } from './statistics-file.ts';
