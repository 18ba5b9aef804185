import { requireObject, requireText } from '../arguments.ts';
import { writeFileAtomic } from '../files/atomic.ts';
import type { CardResults } from '../hub/card-results.ts';
import type { IsotropyFile } from '../hub/pipeline-folder.ts';
import { exportModel, learnsVariance, refuseFloat32Only, takesClassLabels } from '../models/model.ts';
import type { OnnxModelOptions } from '../models/onnx/model.ts';
import { refuseNonFiniteWeights } from '../models/weights.ts';
import { bytesOf } from '../platform/bytes.ts';
import { DDPMScheduler } from '../schedulers/ddpm.ts';
import { BaseTrainer } from './base-trainer.ts';
import { decidingArguments } from './checkpoint/run-identity.ts';
import {
  refuseMismatch,
  refuseTimesteps,
  refuseVarianceMismatch,
  refuseWrongEngine,
  refuseWrongLabels,
  refuseWrongTypes,
} from './checks.ts';
import { type LatentSamples, latentSamples } from './data/latents.ts';
import { imageSamples, isImageSet, pointSamples } from './data/samples.ts';
import type { EstimateOptions, TrainingEstimate } from './estimate/estimate.ts';
import { measureIsotropy, SquaredNoiseSession, trainedLambda } from './isotropy.ts';
import { changesWhileRunning } from './live-settings.ts';
import type { Ranks } from './ranks.ts';
import { readPicture, type SaveFormat, saveTrainedPipeline } from './save-pipeline.ts';
import { DiffusionObjective } from './step/diffusion-objective.ts';
import { stepSettings } from './step/settings.ts';
import { modelInSize, ownCopy, type TrainerOptions, trainingSets } from './trainer-options.ts';
import { resolveTrainingArguments } from './training-arguments.ts';

/**
 * Trains a diffusion model in the manner of Hugging Face's Trainer. Everything that is random follows from `seed` and
 * the step, so a run that was killed and resumed ends with the same bits as one that was not.
 *
 * @example
 * const trainer = new Trainer({
 *   model: new ConditionalDense(),
 *   args: { output_dir: './runs/swiss-roll', num_train_epochs: 100 },
 *   train_dataset: await loadPoints('swiss-roll'),
 *   loss: isoLoss({ lambda: 0.1 }),
 *   noise_scheduler: new DDPMScheduler(),
 * });
 * await trainer.train();
 * await trainer.savePipeline('./runs/swiss-roll/pipeline');
 */
export class Trainer extends BaseTrainer<TrainerOptions> {
  /** What the samples are in latent diffusion. */
  private readonly latents: LatentSamples | undefined;

  /**
   * Options are read here: what the caller changes later in them or in the noise scheduler has no effect.
   *
   * @throws {InvalidArgumentError} when arguments are wrong, or model, data and scheduler do not fit together.
   * @throws {DistributedError} when mpirun or srun started the process, and MPI cannot be used.
   */
  constructor(options: TrainerOptions) {
    refuseWrongTypes(options);
    const own = ownCopy(options);
    const model = modelInSize(own);
    const { train_dataset, condition_dataset } = trainingSets(model, own);
    const { loss, noise_scheduler } = own;
    const args = resolveTrainingArguments(own.args);
    refuseWrongEngine(options, args);
    const latents = latentSamples({ ...own, train_dataset }, args);
    const samples =
      latents ??
      (isImageSet(train_dataset) ? imageSamples(train_dataset, args, condition_dataset) : pointSamples(train_dataset));
    refuseVarianceMismatch(model, loss, noise_scheduler);
    if (args.mixed_precision === 'fp16') refuseFloat32Only(model, "mixed_precision 'fp16'");
    refuseMismatch(model, samples);
    refuseTimesteps(model, noise_scheduler);
    const { classCount } = model;
    const dropout = args.class_dropout_prob;
    refuseWrongLabels(model, samples, dropout);
    super({ ...own, model, train_dataset, condition_dataset }, args, {
      trained: { name: 'model', config: model.config },
      objective: new DiffusionObjective({ model, loss, noise_scheduler }, args),
      loss,
      recorded: {
        noise_scheduler: noise_scheduler.toConfig(),
        condition_dataset_sha256: condition_dataset?.fingerprint,
        autoencoder: latents?.identity,
      },
      samples,
      draws: {
        trainTimesteps: noise_scheduler.config.num_train_timesteps,
        noiseOffset: args.noise_offset,
        inputPerturbation: args.input_perturbation,
        classes: takesClassLabels(model) ? { classCount: classCount ?? 0, dropout } : undefined,
      },
    });
    this.latents = latents;
  }

  /**
   * A trainer that fine-tunes an ONNX file, as torch.onnx.export, optimum or this package write it: its initializers are
   * the parameters (see `OnnxModel`). `savePipeline` and `exportOnnx` write the same file back with the trained ones.
   *
   * @param file a model that takes a sample and a timestep; it may keep its weights in files beside it.
   * @param given.onnx which initializers are trained, the names of the inputs, and the shape of a sample; default: the
   * shape in the data set.
   * @throws {OnnxFormatError} when the file cannot be read; what is not supported is listed all in one error.
   * @throws {GradientError} that lists all ops without a gradient rule.
   * @example
   * const trainer = await Trainer.fromOnnx('./unet.onnx', { args, train_dataset, loss, noise_scheduler });
   */
  static async fromOnnx(
    file: string,
    given: Omit<TrainerOptions, 'model'> & { onnx?: OnnxModelOptions | undefined },
  ): Promise<Trainer> {
    requireText('the ONNX file', file);
    requireObject('the options of fromOnnx', given);
    requireObject('train_dataset', given.train_dataset);
    requireObject('noise_scheduler', given.noise_scheduler);
    const { onnx, ...options } = given;
    const own = ownCopy(options);
    const { train_dataset: data } = own;
    const ofImages = isImageSet(data) ? [data.channels, data.height, data.width] : [data.dims];
    const sample_shape = latentSamples(own, resolveTrainingArguments(own.args))?.sampleShape ?? ofImages;
    const { OnnxModel } = await import('../models/onnx/model.ts');
    return new Trainer({ ...own, model: await OnnxModel.fromFile(file, { sample_shape, ...onnx }) });
  }

  /**
   * Writes the trained model as one ONNX file, atomically; with `use_ema` and `ema`, the averaged weights.
   *
   * @throws {NonFiniteWeightsError} when a weight is NaN or infinite. Nothing is written then.
   */
  async exportOnnx(file: string, { ema = this.args.use_ema }: { ema?: boolean } = {}): Promise<void> {
    requireText('the ONNX file', file);
    if (this.communicator.rank > 0) return;
    const { model } = this.options;
    const weights = this.views(ema);
    refuseNonFiniteWeights(weights);
    await writeFileAtomic(file, exportModel(model, weights));
  }

  /**
   * Writes the trained model as a pipeline folder (diffusers' layout, see `savePipelineFolder`); with `use_ema`, the
   * averaged weights lie in `unet_ema` beside the raw ones in `unet`, and `pipeline()` takes them. An existing
   * pipeline folder is replaced once the new one is complete. `README.md` is a model card for the Hub with the training
   * settings and `metrics`. The options of `SaveFormat` say how numbers and files are written.
   *
   * @param options.metrics results to list, such as those of `precisionRecallDensityCoverage`.
   * @param options.metric_args what they were computed with, such as the extractor, to list beside them.
   * @param options.license the licence's name on the Hub, such as 'apache-2.0'.
   * @param options.picture a PNG file of samples, which is copied as `samples.png` and shown on the card.
   * @throws {FileFormatError} when the picture is not a PNG file.
   * @throws {NonFiniteWeightsError} when a weight is NaN or infinite. Nothing is written then.
   */
  async savePipeline(
    directory: string,
    options: SaveFormat & {
      metrics?: CardResults['metrics'] | undefined;
      metric_args?: CardResults['args'];
      license?: string | undefined;
      picture?: string | undefined;
    } = {},
  ): Promise<void> {
    requireText('the folder of the pipeline', directory);
    requireObject('the options of savePipeline()', options);
    if (this.communicator.rank > 0) return;
    const { metrics, metric_args: args, license, picture, ...format } = options;
    await this.latents?.open();
    const trained = {
      ...(await this.parts()),
      weights: this.views(false),
      averagedWeights: this.args.use_ema ? this.views(true) : undefined,
      card: {
        ...this.cardFacts(this.step),
        averaged: this.args.use_ema,
        results: metrics && { metrics, args },
        license,
      },
      picture: picture === undefined ? undefined : await readPicture(picture),
    };
    await this.measured((measure) => saveTrainedPipeline(directory, { ...trained, measure }, format));
  }

  /**
   * How long this training will take, which batch fits into memory, and how long drawing takes afterwards. Memory and
   * operations are counted from the graph of a step; time is that of a few steps that are taken, on a device that is here.
   * Nothing is written, and the trainer stays as it is. See docs/how-long.md.
   *
   * @throws {InvalidArgumentError} when an option is wrong, or the engine is 'tfjs'.
   * @throws {DeviceError} when the device cannot be used. With `measure_seconds: 0` a device that is named needs not be there.
   * @example
   * const { training_seconds, run, batches } = await trainer.estimate();
   * console.log(`${training_seconds / 3600} hours, ${run.memory_bytes / 2 ** 30} GiB`);
   */
  async estimate(options: EstimateOptions = {}): Promise<TrainingEstimate> {
    const { estimateRun } = await import('./estimate/estimate.ts');
    const { options: own, args, batches, maxSteps } = this;
    return estimateRun({ options: own, args, batches, maxSteps, resolveDevice: () => this.device() }, options);
  }

  /** What a model card says of the training. */
  private cardFacts(steps: number) {
    const { model, train_dataset, loss } = this.options;
    return {
      task: isImageSet(train_dataset) ? 'unconditional-image-generation' : 'unconditional-point-generation',
      className: model.config._class_name,
      dataset: train_dataset.name,
      hubId: train_dataset.hubId,
      steps,
      loss: loss.config,
      autoencoder: this.options.autoencoder?.autoencoder.config._class_name,
      settings: {
        ...decidingArguments(this.identity),
        ...this.latents?.facts,
        ...changesWhileRunning(this.checkpoints?.recordedChanges),
      },
      classNames: takesClassLabels(model) && isImageSet(train_dataset) ? train_dataset.classNames : undefined,
    } as const;
  }

  /** Gives `save` what measures the isotropy of weights. */
  private async measured(
    save: (measure: (weights: ReadonlyMap<string, Float32Array>) => Promise<IsotropyFile>) => Promise<void>,
  ): Promise<void> {
    let session: SquaredNoiseSession | undefined;
    try {
      await save(async (weights) => {
        session ??= await this.squaredNoiseSession();
        return this.isotropyOf(session, weights);
      });
    } finally {
      await session?.release();
    }
  }

  private async squaredNoiseSession(): Promise<SquaredNoiseSession> {
    const { args, options } = this;
    const device = options.tf ? 'cpu' : await this.device();
    return SquaredNoiseSession.create(stepSettings(options, args), device);
  }

  /** The isotropy with these weights, on noise that the training has not seen. */
  private async isotropyOf(
    session: SquaredNoiseSession,
    weights: ReadonlyMap<string, Float32Array>,
  ): Promise<IsotropyFile> {
    const measured = await measureIsotropy(session.of(weights), this.batches, this.maxSteps);
    return { ...measured, lambda: trainedLambda(this.options.loss.config, this.checkpoints?.recordedChanges) };
  }

  /** Encodes the images of latent diffusion. Rank 0 does it first: others of its machine find the file. */
  protected override async prepare(ranks: Ranks, signal: AbortSignal | undefined): Promise<void> {
    const { latents } = this;
    if (!latents) return;
    await ranks.onFirst(() => latents.open(signal));
    await latents.open(signal);
    const factor = Float64Array.of(latents.scaling.factor);
    await this.communicator.broadcast(bytesOf(factor));
    latents.useFactor(factor[0] ?? 1);
    this.identity = { ...this.identity, autoencoder: latents.identity };
  }

  protected async saveSnapshot(
    directory: string,
    weights: ReadonlyMap<string, Float32Array>,
    { step, complete }: { readonly step: number; readonly complete: boolean },
  ): Promise<void> {
    const snapshot = { ...(await this.parts()), weights };
    if (!complete) return saveTrainedPipeline(directory, snapshot);
    const card = { ...this.cardFacts(step), averaged: false };
    await this.measured((measure) => saveTrainedPipeline(directory, { ...snapshot, card, measure }));
  }

  /** What a pipeline folder holds beside the weights. The scheduler is DDPM's `learned_range` for a learned variance. */
  private async parts() {
    const { model, noise_scheduler, train_dataset } = this.options;
    const scheduler =
      learnsVariance(model) && noise_scheduler instanceof DDPMScheduler
        ? new DDPMScheduler({ ...noise_scheduler.config, variance_type: 'learned_range' })
        : noise_scheduler;
    const autoencoder = await this.latents?.codec();
    return { model, scheduler, autoencoder, points: isImageSet(train_dataset) ? undefined : train_dataset };
  }
}
