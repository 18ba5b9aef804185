import { requireFunction, requireObject, requireText } from '../arguments.ts';
import type { Autoencoder } from '../autoencoders/autoencoder.ts';
import { type SaveAutoencoderOptions, saveAutoencoder } from '../autoencoders/save-autoencoder.ts';
import { AutoencoderSession } from '../autoencoders/session.ts';
import type { ImageSet } from '../datasets/images/image-set.ts';
import { InvalidArgumentError } from '../errors.ts';
import { type AutoencoderLoss, autoencoderLoss } from '../losses/autoencoder.ts';
import { BaseTrainer } from './base-trainer.ts';
import { refuseWrongEngine, refuseWrongRun } from './checks.ts';
import { imageSamples, isImageSet } from './data/samples.ts';
import { measureReconstruction, type Reconstruction, refuseOtherImages } from './reconstruction.ts';
import { AutoencoderObjective } from './step/autoencoder-objective.ts';
import { refuseWrongIntervals, type TrainerCallback, type TrainerRun, type TrainerState } from './trainer-callback.ts';
import { ownCopy, type RunOptions } from './trainer-options.ts';
import { type ResolvedTrainingArguments, resolveTrainingArguments } from './training-arguments.ts';

/** What an `AutoencoderTrainer` is made of. */
export interface AutoencoderTrainerOptions extends RunOptions {
  /** The autoencoder to train, such as `new AutoencoderKL(...)`; its parameters start from their `init`, drawn by `args.seed`. */
  readonly autoencoder: Autoencoder;
  /**
   * The images, as `loadImages` returns them: of the autoencoder's channels, with height and width in pixels that it can
   * halve.
   */
  readonly train_dataset: ImageSet;
  /** What is minimised; default `autoencoderLoss()`. */
  readonly loss?: AutoencoderLoss | undefined;
  /** Other images, whose reconstruction is measured while training runs: loggers are told their `psnr`; default none. */
  readonly eval_dataset?: ImageSet | undefined;
  /** Steps between two evaluations, at least 1; default: one after each epoch. */
  readonly eval_steps?: number | undefined;
}

/** How `AutoencoderTrainer.saveAutoencoder` writes. */
export interface SaveTrainedOptions extends SaveAutoencoderOptions {
  /** Whether the moving average of the weights is written; default: as `use_ema`. */
  readonly ema?: boolean | undefined;
}

/**
 * Trains an autoencoder for latent diffusion as `Trainer` trains a diffusion model: the same arguments, devices,
 * checkpoints, logs, callbacks and ranks, and the same bits after a run was killed and resumed.
 *
 * Of an autoencoder with distributions a latent is drawn for each image, from the seed, the step and its place in the step.
 * The log has `loss` and the terms of the loss. Loggers are told of the `psnr` of an `eval_dataset`, as of evaluations.
 *
 * @example
 * const trainer = new AutoencoderTrainer({
 *   autoencoder: new AutoencoderKL({ sample_size: 32, block_out_channels: [32, 64], ... }),
 *   args: { output_dir: './runs/autoencoder', num_train_epochs: 20, per_device_train_batch_size: 16 },
 *   train_dataset: await loadImages('./photos', { resolution: 32 }),
 *   loss: autoencoderLoss({ kl_weight: 1e-6 }),
 * });
 * await trainer.train();
 * await trainer.saveAutoencoder('./runs/autoencoder/autoencoder');
 */
export class AutoencoderTrainer extends BaseTrainer<AutoencoderTrainerOptions> {
  /**
   * Options are read here: what the caller changes later in them has no effect.
   *
   * @throws {InvalidArgumentError} when arguments are wrong, or the images do not fit the autoencoder.
   * @throws {DistributedError} when mpirun or srun started the process, and MPI cannot be used.
   */
  constructor(options: AutoencoderTrainerOptions) {
    refuseWrongOptions(options);
    const own = ownCopy(options);
    const { autoencoder, train_dataset, eval_dataset, loss = autoencoderLoss() } = own;
    const args = resolveTrainingArguments(own.args);
    refuseWrongEngine(options, args);
    refuseArgumentsOfDiffusion(args);
    for (const images of eval_dataset ? [train_dataset, eval_dataset] : [train_dataset])
      refuseOtherImages(autoencoder, images);
    const samples = imageSamples(train_dataset, args);
    const objective = new AutoencoderObjective(autoencoder, loss, samples.sampleShape);
    const evaluation = eval_dataset && evaluationOf({ ...own, eval_dataset });
    super({ ...own, callbacks: [...(own.callbacks ?? []), ...(evaluation ? [evaluation] : [])] }, args, {
      trained: { name: 'autoencoder', config: autoencoder.config },
      objective,
      loss,
      samples,
      draws: { noiseSize: objective.noiseSize },
    });
  }

  /**
   * Writes the trained autoencoder as a folder that `loadAutoencoder` and diffusers open (see `saveAutoencoder`); an existing
   * folder of one is replaced once the new one is complete.
   *
   * @throws {InvalidArgumentError} when the folder holds something else, an option is wrong, or training runs.
   * @throws {NonFiniteWeightsError} when a weight is NaN or infinite. Nothing is written then.
   */
  async saveAutoencoder(
    directory: string,
    { ema = this.args.use_ema, ...format }: SaveTrainedOptions = {},
  ): Promise<void> {
    requireText('the folder of the autoencoder', directory);
    if (this.communicator.rank > 0) return;
    await saveAutoencoder(directory, this.options.autoencoder, this.views(ema), format);
  }

  /**
   * How well images come back that were not trained on.
   *
   * @param images default `eval_dataset`. @param options.ema whether the averaged weights are used; default: as `use_ema`.
   * @throws {InvalidArgumentError} when there are none, or they do not fit.
   */
  async evaluate(
    images: ImageSet | undefined = this.options.eval_dataset,
    { ema = this.args.use_ema }: { ema?: boolean } = {},
  ): Promise<Reconstruction> {
    if (!images)
      throw new InvalidArgumentError('evaluate() needs images: give them, or an eval_dataset to the trainer');
    return measured(this.options, images, this.views(ema));
  }

  protected async saveSnapshot(directory: string, weights: ReadonlyMap<string, Float32Array>): Promise<void> {
    await saveAutoencoder(directory, this.options.autoencoder, weights);
  }
}

/** Measures the reconstruction of `eval_dataset` between two steps, and logs it. */
function evaluationOf(options: AutoencoderTrainerOptions & { readonly eval_dataset: ImageSet }): TrainerCallback {
  const { eval_dataset, eval_steps } = options;
  let last = 0;
  const evaluate = async ({ global_step }: TrainerState, run: TrainerRun) => {
    if (last === global_step) return;
    last = global_step;
    const { psnr } = await measured(options, eval_dataset, await run.weights());
    await run.loggers.logEvaluation(global_step, { psnr });
  };
  const when = eval_steps === undefined ? { onEpoch: evaluate } : { interval_steps: eval_steps, onInterval: evaluate };
  const begin = ({ global_step }: TrainerState) => {
    last = global_step;
  };
  return { ...when, onTrainBegin: begin, onTrainEnd: evaluate };
}

async function measured(
  { autoencoder, args, tf }: AutoencoderTrainerOptions,
  images: ImageSet,
  weights: ReadonlyMap<string, Float32Array>,
): Promise<Reconstruction> {
  const { device, device_id, tf32 } = args;
  const where = tf ? ({ device: 'cpu' } as const) : { device, device_id, tf32 };
  const session = await AutoencoderSession.create(autoencoder, weights, where);
  try {
    return await measureReconstruction(session, images);
  } finally {
    await session.dispose();
  }
}

/** @throws {InvalidArgumentError} when an option is missing or of a wrong type. */
function refuseWrongOptions(options: AutoencoderTrainerOptions): void {
  refuseWrongRun(options);
  const { autoencoder, train_dataset, eval_dataset, eval_steps, loss } = options;
  requireObject('autoencoder', autoencoder);
  requireFunction('autoencoder.encode', autoencoder.encode);
  requireFunction('autoencoder.decode', autoencoder.decode);
  if (loss !== undefined) {
    requireFunction('loss', loss);
    requireObject('loss.config', loss.config);
  }
  for (const [name, images] of Object.entries({ train_dataset, eval_dataset }))
    if (images !== undefined && !isImageSet(images))
      throw new InvalidArgumentError(`${name} has no images: an autoencoder is trained on those of loadImages`);
  if (eval_steps === undefined) return;
  if (!eval_dataset) throw new InvalidArgumentError('eval_steps is given, but there is no eval_dataset to evaluate on');
  refuseWrongIntervals([{ interval_steps: eval_steps }]);
}

/** Arguments that belong to the noise and the classes of a diffusion model. */
const OF_DIFFUSION = ['class_dropout_prob', 'noise_offset', 'input_perturbation'] as const;

/** @throws {InvalidArgumentError} when an argument is set that does nothing here. */
function refuseArgumentsOfDiffusion(args: ResolvedTrainingArguments): void {
  for (const name of OF_DIFFUSION)
    if (args[name] !== 0)
      throw new InvalidArgumentError(`${name} is ${args[name]}, but belongs to diffusion models: leave it out`);
}
