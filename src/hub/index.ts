export type { DownloadProgress } from './hub-snapshot.ts';
export { type PushToHubOptions, pushToHub } from './push-to-hub.ts';
