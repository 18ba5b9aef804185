export type { AttentionProjections, FeatureMaps, Projection } from './layout.ts';
export { channelsFirst } from './nchw.ts';
export { pixelsFirst } from './nhwc.ts';
