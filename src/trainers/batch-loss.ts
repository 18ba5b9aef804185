import type { FeatureMaps } from '../graph/feature-maps/index.ts';
import type { Value } from '../graph/graph.ts';
import { type DropoutNumbers, enableDropout, split } from '../graph/ops/index.ts';
import { segmentGradients } from '../graph/rematerialise.ts';
import type { LossTerms } from '../losses/index.ts';
import { learnsVariance, type ParameterValues } from '../models/model.ts';
import type { TrainingGraphSettings } from './training-graph.ts';

/** One batch: samples are [batch, ...], timestep and labels [batch], alphaCumprod [batch, 1, ...]. */
export interface BatchInputs {
  readonly noisySample: Value;
  readonly cleanSample: Value;
  readonly noise: Value;
  readonly timestep: Value;
  readonly classLabels: Value | undefined;
  readonly alphaCumprod: Value;
  /** For a model with dropout. */
  readonly dropoutNumbers: DropoutNumbers;
}

/**
 * The loss of a batch: the forward pass as it is in training, and the loss of its output.
 *
 * @param maps the memory order of the model's feature maps; default the model's own.
 */
export function batchLoss(
  { model, loss, predictionType, betas, gradientCheckpointing = false }: TrainingGraphSettings,
  inputs: BatchInputs,
  parameters: ParameterValues,
  maps?: FeatureMaps,
): LossTerms {
  const { noisySample, cleanSample, noise, timestep, alphaCumprod, classLabels, dropoutNumbers } = inputs;
  segmentGradients(noisySample.graph, { recompute: gradientCheckpointing });
  enableDropout(noisySample.graph, dropoutNumbers);
  const output = model.forward(noisySample, timestep, parameters, classLabels, maps);
  const [channels = 1] = model.sampleShape;
  const [modelOutput = output, variance] = learnsVariance(model)
    ? split(output, [channels, channels], 1)
    : [output];
  return loss({
    modelOutput,
    epsilon: noise,
    noisySample,
    cleanSample,
    alphaCumprod,
    predictionType,
    ...(variance ? { learnedVariance: { output: variance, timestep, betas } } : {}),
  });
}
