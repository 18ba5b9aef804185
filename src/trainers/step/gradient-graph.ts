import { gradients } from '../../graph/autodiff/gradients.ts';
import { Graph, type Value } from '../../graph/graph.ts';
import { identity } from '../../graph/ops/index.ts';
import type { ParameterSpec } from '../../models/model.ts';
import type { FeatureMaps } from '../../nn/layouts.ts';
import { batchLoss, stackTerms } from './batch-loss.ts';
import type { DropoutInput } from './dropout-inputs.ts';
import { declareBatch } from './graph-batch.ts';
import type { TrainingGraphSettings } from './training-graph.ts';

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

/** A batch's forward pass and loss, without gradients. */
export interface LossGraph {
  readonly graph: Graph;
  /** The inputs of the parameters, in the model's order. */
  readonly parameters: ReadonlyMap<string, Value>;
  readonly loss: Value;
  /** float32 [4], the `LOSS_TERMS`. */
  readonly terms: Value;
  readonly dropouts: readonly DropoutInput[];
}

/**
 * Inputs: every parameter under its name, filters in the order of `maps`; `clean` and `noise` float32 [1, batch, ...],
 * `timestep` int32 [1, batch]. For a model with classes also `class_labels` int32 [1, batch]; for one with dropout the
 * `dropouts`.
 */
export function buildLossGraph(settings: TrainingGraphSettings, maps: FeatureMaps): LossGraph {
  const { model } = settings;
  const graph = new Graph('gradients');
  const parameters = new Map(
    model.parameters.map(
      (spec) => [spec.name, graph.input(spec.name, 'float32', shapeIn(maps, spec))] as const,
    ),
  );
  const { batch, dropouts } = declareBatch(graph, settings);
  const terms = batchLoss(settings, batch, parameters, maps);
  return { graph, parameters, loss: terms.loss, terms: stackTerms(terms), dropouts };
}

/**
 * Forward and backward pass of one batch, for models so large that parameters and gradients should exist once.
 *
 * Inputs: those of `buildLossGraph`. Outputs: `d/<parameter>` for every parameter, and `terms`, float32 [4], the
 * `LOSS_TERMS`.
 */
export function buildGradientGraph(settings: TrainingGraphSettings, maps: FeatureMaps): GradientGraph {
  const { graph, parameters, loss, terms, dropouts } = buildLossGraph(settings, maps);
  const found = gradients(loss, [...parameters.values()]);
  [...parameters.keys()].forEach((name, index) => {
    const gradient = found[index];
    if (gradient) graph.output(gradientName(name), identity(gradient));
  });
  graph.output('terms', terms);
  return { graph, dropouts };
}
