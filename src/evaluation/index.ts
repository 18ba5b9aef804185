export type { EvaluationCallbackOptions } from './callback/callback-options.ts';
export { EvaluationCallback } from './callback/evaluation-callback.ts';
export type { EvaluationRecord } from './callback/evaluation-log.ts';
export type { SnapshotMetrics } from './callback/evaluation-process.ts';
export { evaluate, evaluateShare, mergeEvaluation } from './evaluate.ts';
export { type ConvertedExtractor, convertExtractor } from './extractors/convert-extractor.ts';
export { type FeatureExtractor, type FeatureImage, RawPixels } from './extractors/feature-extractor.ts';
export type { ResizeRule } from './extractors/image-tensor.ts';
export { OnnxFeatures, type OnnxFeaturesOptions } from './extractors/onnx-features.ts';
export { extractorsFolder } from './extractors/published-extractors.ts';
export {
  type ExtractorFactory,
  type ExtractorRequest,
  extractors,
  type ResolveExtractorOptions,
  resolveExtractor,
} from './extractors/registry.ts';
export {
  TransformersFeatures,
  type TransformersFeaturesOptions,
} from './extractors/transformers-features.ts';
export { type ImageStatistics, type ImageStatisticsOptions, imageStatistics } from './image-statistics.ts';
export type {
  EvaluatedSet,
  EvaluateOptions,
  EvaluationReport,
  EvaluationStage,
  ExtractionOptions,
  FakeInput,
  RealInput,
  ReportedContactSheets,
  ReportedExtractor,
} from './options.ts';
export { EvaluationPartError } from './parts/part.ts';
export { type PathLengthOptions, type PathLengthReport, perceptualPathLength } from './path-length/path-length.ts';
