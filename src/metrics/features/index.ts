export type { FeatureExtractor, FeatureImage } from './feature-extractor.ts';
export { OnnxFeatures, type OnnxFeaturesOptions } from './onnx-features.ts';
export { RawPixels } from './raw-pixels.ts';
export { TransformersFeatures, type TransformersFeaturesOptions } from './transformers-features.ts';
