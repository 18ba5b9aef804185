export type { DownloadProgress } from './download.ts';
export type { PretrainedOptions } from './open-pretrained.ts';
export { type PushToHubOptions, pushToHub } from './push-to-hub.ts';
