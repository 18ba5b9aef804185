export { DownloadError } from '../errors.ts';
export { type Augmentation, fillSample, type ImageShape } from './images/augment.ts';
export {
  type ImageArrayOptions,
  type ImageSet,
  imagesFromArray,
  type SizedPixels,
  type SkippedImage,
} from './images/image-set.ts';
export { type ImageProgress, type LoadImagesOptions, loadImages } from './images/load-images.ts';
export { type DroppedItem, droppedFiles } from './images/sources/dropped-files.ts';
export { type LoadPointsOptions, loadPoints } from './points/load-points.ts';
export { writeCsvPoints, writeNpyPoints } from './points/point-files.ts';
export {
  applyScaler,
  fitScaler,
  invertScaler,
  type PointArrayOptions,
  type PointSet,
  pointsFromArray,
  type Scaler,
  type Scaling,
} from './points/points.ts';
export type { SyntheticName } from './points/synthetic.ts';
