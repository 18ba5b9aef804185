export type { CardDataset, CardResults } from './card-results.ts';
export type { PretrainedOptions } from './open-pretrained.ts';
export type { PipelineSource } from './pipeline-source.ts';
export { type PushPlan, type PushToHubOptions, pushPlan, pushToHub } from './push-to-hub.ts';
export type { DownloadProgress } from './repository.ts';
