export { writeCsvPoints } from './csv.ts';
export { type LoadPointsOptions, loadPoints } from './load-points.ts';
export { writeNpyPoints } from './npy.ts';
export { applyScaler, fitScaler, invertScaler, type PointSet, type Scaler, type Scaling } from './points.ts';
export type { SyntheticName } from './synthetic.ts';
