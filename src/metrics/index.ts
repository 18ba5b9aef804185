export { type ClipDiscrepancyOptions, clipDiscrepancy } from './cmmd.ts';
export { type FrechetOptions, frechetDistance } from './frechet/fid.ts';
export { FeatureStatistics, type GaussianStatistics, mergeStatistics } from './frechet/statistics.ts';
export { readStatistics, StatisticsFileError, writeStatistics } from './frechet/statistics-file.ts';
export { type InceptionScore, type InceptionScoreOptions, inceptionScore } from './inception-score.ts';
export {
  type Isotropy,
  isotropy,
  isotropyOfNoisedData,
  type NoisedIsotropy,
  type NoisedIsotropyOptions,
} from './isotropy.ts';
export { type KernelDistance, type KernelDistanceOptions, kernelDistance } from './kid.ts';
export { type BlockGemm, createBlockGemm } from './linalg/block-gemm.ts';
export type { BlockProducts } from './linalg/products.ts';
export type {
  Metric,
  MetricInputs,
  MetricOptions,
  MetricSide,
  PointCloud,
  SampleCounts,
  SampleForm,
} from './metric.ts';
export type { Prdc } from './prdc/counts.ts';
export { type PrdcOptions, precisionRecallDensityCoverage } from './prdc/prdc.ts';
export {
  type NoisePredictor,
  type PredictedNoiseIsotropy,
  type PredictedNoiseIsotropyOptions,
  type PredictedNoiseRatio,
  type PredictedNoiseRatioOptions,
  predictedNoiseIsotropy,
  predictedNoiseRatio,
} from './predicted-noise.ts';
export { type BuiltInMetricOptions, type MetricName, metrics } from './registry.ts';
