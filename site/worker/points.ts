import { fitScaler, type PointSet, pointsFromArray } from '../../src/datasets/points/points.ts';
import type { PointData } from '../messages.ts';
import { MEASURED_POINTS, NEAREST_K, SPREAD } from '../settings.ts';

const FEWEST = 4 * NEAREST_K;

/** The points as the model sees them: both axes with mean 0 and the page's spread. */
export function trainingPoints({ name, data }: PointData): PointSet {
  if (data.length < 2 * FEWEST)
    throw new Error(`${name} has ${data.length / 2} points, but at least ${FEWEST} are needed to learn from.`);
  const { offset, scale } = fitScaler('standardise', data, 2);
  const scaler = { kind: 'standardise' as const, offset, scale: scale.map((value) => SPREAD * value) };
  const scaled = data.map((value, i) => (value - (offset[i % 2] ?? 0)) * (scaler.scale[i % 2] ?? 1));
  return { ...pointsFromArray(scaled, 2, { name, scaling: 'none' }), scaler };
}

/** Points spread over the whole set, at most as many as are measured. */
export function someOf({ data, count }: PointSet): Float32Array {
  const taken = Math.min(count, MEASURED_POINTS);
  const some = new Float32Array(2 * taken);
  for (let i = 0; i < taken; i++) {
    const from = Math.floor((i * count) / taken);
    some.set(data.subarray(2 * from, 2 * from + 2), 2 * i);
  }
  return some;
}
