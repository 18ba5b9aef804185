import type { Value } from '../../graph/graph.ts';
import { add, cast, mul } from '../../graph/ops/elementwise.ts';
import { gather } from '../../graph/ops/indexing.ts';
import { split, unsqueeze } from '../../graph/ops/shape.ts';
import type { DiffusionLoss, LossResult, PredictionType } from '../../losses/index.ts';
import { conditionShape, type DiffusionModel, learnsVariance, takesClassLabels } from '../../models/model.ts';
import type { ForwardContext } from '../../nn/context.ts';
import type { ParameterSpec } from '../../nn/parameters.ts';
import type { Scheduler } from '../../schedulers/scheduler.ts';
import type { Batch } from './batch.ts';
import type { Objective, Pass, SampleType } from './objective.ts';

/** What a diffusion model is trained with. */
export interface DiffusionParts {
  readonly model: DiffusionModel;
  readonly loss: DiffusionLoss;
  readonly noise_scheduler: Scheduler;
}

/**
 * A batch in a graph with its noising x_t = sqrt(alphaCumprod) clean + sqrt(1 - alphaCumprod) noise, with `input_noise` in
 * place of `noise` where there is one.
 */
export type NoisedBatch = Batch<Value> & {
  /** x_t: [batch, ...sampleShape]. */
  readonly noisy: Value;
  /** [batch, 1, ...]. */
  readonly alphaCumprod: Value;
};

/** The loss of a diffusion model: each sample is noised at its timestep, and the model predicts from that. */
export class DiffusionObjective implements Objective<NoisedBatch> {
  readonly model: DiffusionModel;
  readonly predictionType: PredictionType;
  readonly inputs: Batch<SampleType>;
  private readonly minimised: DiffusionLoss;
  /** The variances of the forward process, one for each training timestep. */
  private readonly betas: Float32Array;
  /** Cumulative products of 1 - beta, one for each training timestep. */
  private readonly alphasCumprod: Float32Array;

  /** @param args.input_perturbation whether samples are made with another noise than is predicted: not where it is 0. */
  constructor(
    { model, loss, noise_scheduler }: DiffusionParts,
    { input_perturbation = 0 }: { readonly input_perturbation?: number | undefined } = {},
  ) {
    this.model = model;
    this.minimised = loss;
    this.predictionType = noise_scheduler.config.prediction_type;
    this.betas = noise_scheduler.betas;
    this.alphasCumprod = noise_scheduler.alphasCumprod;
    const sample = { dtype: 'float32', shape: model.sampleShape } as const;
    const number = { dtype: 'int32', shape: [] } as const;
    const condition = conditionShape(model);
    this.inputs = {
      clean: sample,
      noise: sample,
      input_noise: input_perturbation > 0 ? sample : undefined,
      timestep: number,
      class_labels: takesClassLabels(model) ? number : undefined,
      condition: condition && ({ dtype: 'float32', shape: condition } as const),
    };
  }

  get className(): string {
    return this.model.config._class_name;
  }

  get lossName(): string {
    return this.minimised.config.name;
  }

  get parameters(): readonly ParameterSpec[] {
    return this.model.parameters;
  }

  prepare(batch: Batch<Value>): NoisedBatch {
    const { model, alphasCumprod } = this;
    const { graph } = batch.clean;
    const axes = model.sampleShape.map((_, axis) => axis + 2);
    const atTimestep = (name: string, table: Float32Array) =>
      unsqueeze(gather(graph.constant('float32', [table.length], table, name), batch.timestep), axes);
    const signal = atTimestep('sqrt_alphas_cumprod', alphasCumprod.map(Math.sqrt));
    const sigma = atTimestep(
      'sqrt_one_minus_alphas_cumprod',
      alphasCumprod.map((a) => Math.sqrt(1 - a)),
    );
    const noisy = add(mul(batch.clean, signal), mul(batch.input_noise ?? batch.noise, sigma));
    return { ...batch, noisy, alphaCumprod: atTimestep('alphas_cumprod', alphasCumprod) };
  }

  loss(batch: NoisedBatch, context: ForwardContext, { computeDtype, scalars, overStep }: Pass): LossResult {
    const { noisy, clean, noise, input_noise, timestep, alphaCumprod, class_labels } = batch;
    const { model, minimised, predictionType, betas } = this;
    const sample = cast(noisy, computeDtype);
    const condition = batch.condition && cast(batch.condition, computeDtype);
    const output = cast(model.forward({ sample, timestep, class_labels, condition }, context), noisy.dtype);
    const [channels = 1] = model.sampleShape;
    const [modelOutput = output, variance] = learnsVariance(model) ? split(output, [channels, channels], 1) : [output];
    return minimised({
      modelOutput,
      epsilon: noise,
      inputNoise: input_noise,
      noisySample: noisy,
      cleanSample: clean,
      alphaCumprod,
      predictionType,
      learnedVariance: variance && { output: variance, timestep, betas },
      scalars,
      overStep,
    });
  }
}
