import type { FeatureMaps } from '../graph/feature-maps/index.ts';
import { gradients } from '../graph/gradients.ts';
import { Graph, type Value } from '../graph/graph.ts';
import { concat, identity, reshape } from '../graph/ops/index.ts';
import type { ParameterSpec } from '../models/model.ts';
import { batchLoss } from './batch-loss.ts';
import { type DropoutInput, DropoutInputs } from './dropout-inputs.ts';
import { forwardDiffusion, type TrainingGraphSettings } from './training-graph.ts';

/** What a batch reports, in the order of the output `terms`. */
export const LOSS_TERMS = ['loss', 'base_loss', 'isotropy_penalty', 'isotropy'] as const;

/** The output that holds dL/d(parameter). */
export const gradientName = (parameter: string) => `d/${parameter}`;

/** The shape of a parameter where feature maps have the order `maps`. */
export function shapeIn(maps: FeatureMaps, { shape, isFilter }: ParameterSpec): readonly number[] {
  return isFilter ? maps.filterAxes.map((axis) => shape[axis] ?? 1) : shape;
}

export interface GradientGraph {
  readonly graph: Graph;
  readonly dropouts: readonly DropoutInput[];
}

/**
 * Forward and backward pass of one batch, for models so large that parameters and gradients should exist once.
 *
 * Inputs: every parameter under its name, filters in the order of `maps`; `clean` and `noise` float32 [1, batch, ...], `timestep` int32 [1, batch].
 * For a model with classes also `class_labels` int32 [1, batch]; for one with dropout the `dropouts`.
 * Outputs: `d/<parameter>` for every parameter, and `terms`, float32 [4], the `LOSS_TERMS`.
 */
export function buildGradientGraph(settings: TrainingGraphSettings, maps: FeatureMaps): GradientGraph {
  const { model, batchSize } = settings;
  const graph = new Graph('gradients');
  const parameters = new Map(
    model.parameters.map(
      (spec) => [spec.name, graph.input(spec.name, 'float32', shapeIn(maps, spec))] as const,
    ),
  );
  const samples = [1, batchSize, ...model.sampleShape];
  const clean = graph.input('clean', 'float32', samples);
  const noise = graph.input('noise', 'float32', samples);
  const timestep = graph.input('timestep', 'int32', [1, batchSize]);
  const classLabels = model.classCount ? graph.input('class_labels', 'int32', [1, batchSize]) : undefined;
  const { noisy, alphaCumprod } = forwardDiffusion(graph, settings, clean, noise, timestep);
  const step = (value: Value) => reshape(value, value.shape.slice(1).map(Number));
  const dropouts = new DropoutInputs(graph, 1);
  const inputs = {
    noisySample: step(noisy),
    cleanSample: step(clean),
    noise: step(noise),
    timestep: step(timestep),
    classLabels: classLabels && step(classLabels),
    alphaCumprod: step(alphaCumprod),
    dropoutNumbers: (length: number) => step(dropouts.declare(length)),
  };
  const terms = batchLoss(settings, inputs, parameters, maps);
  const found = gradients(terms.loss, [...parameters.values()]);
  model.parameters.forEach(({ name }, index) => {
    const gradient = found[index];
    if (gradient) graph.output(gradientName(name), identity(gradient));
  });
  const scalars = [terms.loss, terms.base, terms.isotropyPenalty, terms.isotropy];
  graph.output(
    'terms',
    concat(
      scalars.map((scalar) => reshape(scalar, [1])),
      0,
    ),
  );
  return { graph, dropouts: dropouts.all };
}
