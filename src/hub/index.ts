export type { PretrainedOptions } from './open-pretrained.ts';
export { type PushToHubOptions, pushToHub } from './push-to-hub.ts';
export type { DownloadProgress } from './repository.ts';
