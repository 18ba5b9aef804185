export { type ConvertedExtractor, convertExtractor } from './convert-extractor.ts';
export type { FeatureExtractor, FeatureImage } from './feature-extractor.ts';
export { OnnxFeatures, type OnnxFeaturesOptions } from './onnx-features.ts';
export { extractorsFolder } from './published-extractors.ts';
export { RawPixels } from './raw-pixels.ts';
export { type ResolveExtractorOptions, resolveExtractor } from './resolve-extractor.ts';
export { TransformersFeatures, type TransformersFeaturesOptions } from './transformers-features.ts';
