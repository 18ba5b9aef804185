import { segmentGradients } from '../../graph/autodiff/rematerialise.ts';
import type { Value } from '../../graph/graph.ts';
import { concat, enableDropout, reshape, split } from '../../graph/ops/index.ts';
import type { LossTerms } from '../../losses/index.ts';
import { learnsVariance, type ParameterValues } from '../../models/model.ts';
import type { FeatureMaps } from '../../nn/layouts.ts';
import type { GraphBatch } from './graph-batch.ts';
import type { TrainingGraphSettings } from './training-graph.ts';

/** What a batch reports. */
export const LOSS_TERMS = ['loss', 'base_loss', 'isotropy_penalty', 'isotropy'] as const;

/**
 * The loss of a batch: the forward pass as it is in training, and the loss of its output.
 *
 * @param maps the memory order of the model's feature maps; default the model's own.
 */
export function batchLoss(
  { model, loss, predictionType, betas, gradientCheckpointing = false }: TrainingGraphSettings,
  inputs: GraphBatch,
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

/** The `LOSS_TERMS` in one vector, float32 [4]. */
export function stackTerms({ loss, base, isotropyPenalty, isotropy }: LossTerms): Value {
  const rows = [loss, base, isotropyPenalty, isotropy].map((scalar) => reshape(scalar, [1]));
  return concat(rows, 0);
}
