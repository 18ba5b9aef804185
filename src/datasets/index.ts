export { writeCsvPoints } from './csv.ts';
export { type Augmentation, fillSample, type PictureShape } from './images/augment.ts';
export { DownloadError } from './images/download.ts';
export type { ImageSet, SkippedPicture } from './images/image-set.ts';
export { type ImageProgress, type LoadImagesOptions, loadImages } from './images/load-images.ts';
export { type LoadPointsOptions, loadPoints } from './load-points.ts';
export { writeNpyPoints } from './npy.ts';
export { applyScaler, fitScaler, invertScaler, type PointSet, type Scaler, type Scaling } from './points.ts';
export type { SyntheticName } from './synthetic.ts';
