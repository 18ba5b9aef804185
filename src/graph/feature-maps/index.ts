export { channelsFirst } from './channels-first.ts';
export type { AttentionProjections, FeatureMaps, Projection } from './feature-maps.ts';
export { pixelsFirst } from './pixels-first.ts';
