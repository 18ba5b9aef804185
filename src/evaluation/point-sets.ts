import { loadPoints } from '../datasets/points/load-points.ts';
import { applyScaler, invertScaler, type PointSet, type Scaler } from '../datasets/points/points.ts';
import { InvalidArgumentError } from '../errors.ts';
import { loadUnconditionalPointGeneration } from '../pipelines/unconditional-point-generation.ts';
import type { EvaluateOptions, EvaluateSettings } from './evaluate-options.ts';
import type { EvaluationInput } from './evaluation-input.ts';

/** Real and generated points in the same units. */
export interface PointPair {
  readonly real: PointSet;
  readonly fake: PointSet;
}

/**
 * A pipeline is compared in its own units: the real points are scaled as its training data was. Stored points are
 * compared in the units of the real set; of a file, after scaling by its minimum and maximum.
 */
export async function loadPointPair(
  real: EvaluationInput,
  fake: EvaluationInput,
  settings: EvaluateSettings,
  options: Omit<EvaluateOptions, 'real' | 'fake'>,
): Promise<PointPair> {
  if (real.kind !== 'points')
    throw new InvalidArgumentError(`the generated samples are points, but the real ones are ${real.kind}`);
  const { num_samples, num_real = num_samples, data_seed } = settings;
  const loadReal = (scaling: 'min-max' | 'none') =>
    typeof real.source === 'string'
      ? loadPoints(real.source, { n: num_real, seed: data_seed, scaling })
      : Promise.resolve(firstPoints(real.source, num_real));
  if (fake.kind === 'point-pipeline')
    return fromPipeline(await loadReal('none'), fake.source, settings, options);
  if (fake.kind !== 'points')
    throw new InvalidArgumentError(`the real samples are points, but the generated ones are ${fake.kind}`);
  const realPoints = await loadReal('min-max');
  const fakePoints =
    typeof fake.source === 'string'
      ? await loadPoints(fake.source, { n: num_samples, seed: settings.seed, scaling: 'none' })
      : firstPoints(fake.source, num_samples);
  return { real: realPoints, fake: rescaled(fakePoints, realPoints.scaler) };
}

async function fromPipeline(
  raw: PointSet,
  source: Extract<EvaluationInput, { kind: 'point-pipeline' }>['source'],
  settings: EvaluateSettings,
  { generation, signal, on_progress }: Omit<EvaluateOptions, 'real' | 'fake'>,
): Promise<PointPair> {
  const draw =
    typeof source === 'string'
      ? await loadUnconditionalPointGeneration(source, { device: settings.device })
      : source;
  try {
    const { points, dims } = await draw({
      num_inference_steps: generation?.num_inference_steps,
      scheduler: generation?.scheduler,
      eta: generation?.eta,
      batch_size: settings.num_samples ?? raw.count,
      seed: settings.seed,
      output_type: 'scaled',
      on_progress: (fraction) => on_progress?.(fraction, 'fake'),
      signal,
    });
    const { scaler } = draw;
    const name = typeof source === 'string' ? source : 'pipeline';
    const fake = { data: points, count: dims[0], dims: dims[1], name, scaler };
    return { real: rescaled(raw, scaler), fake };
  } finally {
    if (typeof source === 'string') await draw.dispose();
  }
}

/** The points in the units of another scaler. Points of other dimensions stay: the metric refuses them. */
function rescaled(points: PointSet, scaler: Scaler): PointSet {
  const same = JSON.stringify(points.scaler) === JSON.stringify(scaler);
  if (same || scaler.scale.length !== points.dims) return points;
  const raw = invertScaler(points.scaler, points.data, points.dims);
  return { ...points, data: applyScaler(scaler, raw, points.dims), scaler };
}

function firstPoints(points: PointSet, wanted = points.count): PointSet {
  const count = Math.min(wanted, points.count);
  return { ...points, count, data: points.data.subarray(0, count * points.dims) };
}
