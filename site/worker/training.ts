import { isoLoss } from '../../src/losses/iso.ts';
import { type DiffusionModel, initialVector } from '../../src/models/model.ts';
import type { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { BatchStream } from '../../src/trainers/data/batch-stream.ts';
import type { Samples } from '../../src/trainers/data/samples.ts';
import { Engine } from '../../src/trainers/engines/engine.ts';
import { learningRateAt } from '../../src/trainers/schedules.ts';
import { stepSchedule, stepSettings } from '../../src/trainers/step/settings.ts';
import { resolveTrainingArguments } from '../../src/trainers/training-arguments.ts';
import type { Changes, Row, TrainingSetup } from '../messages.ts';
import { CHUNK, EMA_DECAY, MAX_STEPS, WARMUP_STEPS } from '../settings.ts';

interface Subject {
  readonly model: DiffusionModel;
  readonly scheduler: DDPMScheduler;
  readonly samples: Samples;
  readonly device: 'cpu' | 'webgpu';
}

/** Training of a model in chunks of steps, with what may change between them. */
export class Training {
  /** Read anew for each step. */
  private readonly live: { learningRate: number; lossScalars: Record<string, number> };
  private engine: Engine | undefined;
  private done = 0;

  private constructor(
    private readonly subject: Subject,
    private readonly setup: TrainingSetup,
  ) {
    const { learningRate, lambda, lambdaChanges } = setup;
    this.live = { learningRate, lossScalars: lambdaChanges ? { lambda } : {} };
  }

  static async begin(subject: Subject, setup: TrainingSetup): Promise<Training> {
    const training = new Training(subject, setup);
    await training.restart(initialVector(subject.model, setup.seed));
    return training;
  }

  /** Begins to train from these weights. */
  async restart(parameters: Float32Array): Promise<void> {
    const { setup, live, subject } = this;
    const { model, scheduler: noise_scheduler, samples, device } = subject;
    const args = this.arguments;
    const loss = isoLoss({ lambda: setup.lambda });
    const changeable_scalars = Object.keys(live.lossScalars);
    const settings = stepSettings({ model, loss, noise_scheduler, changeable_scalars }, args);
    const batches = new BatchStream(samples, {
      batchSize: setup.batchSize,
      trainTimesteps: noise_scheduler.config.num_train_timesteps,
      seed: setup.seed,
    });
    const initial = new Map([
      ['parameters' as const, parameters],
      ['ema' as const, parameters],
    ]);
    await this.engine?.release();
    this.engine = await Engine.create(settings, { device }, initial, batches, stepSchedule(args, MAX_STEPS, live));
    this.done = 0;
  }

  change({ lambda, learningRate }: Changes): void {
    if (lambda !== undefined && 'lambda' in this.live.lossScalars) this.live.lossScalars.lambda = lambda;
    if (learningRate !== undefined) this.live.learningRate = learningRate;
  }

  /** Takes at most a chunk of steps; none where the last was taken. */
  async train(steps: number): Promise<{ rows: Row[]; learningRate: number }> {
    const count = Math.min(steps, CHUNK, MAX_STEPS - this.done);
    const reports = this.engine && count > 0 ? await this.engine.run(this.done, count) : [];
    const rows = reports.map(({ loss = Number.NaN, isotropy = Number.NaN }, i) => ({
      step: this.done + i + 1,
      loss,
      isotropy,
    }));
    this.done += rows.length;
    return { rows, learningRate: learningRateAt(Math.max(1, this.done), this.arguments, MAX_STEPS) };
  }

  /** The averaged weights, as one vector. */
  async weights(): Promise<Float32Array> {
    return (await this.engine?.state())?.get('ema') ?? new Float32Array();
  }

  async release(): Promise<void> {
    await this.engine?.release();
  }

  private get arguments() {
    return resolveTrainingArguments({
      output_dir: 'page',
      max_steps: MAX_STEPS,
      per_device_train_batch_size: this.setup.batchSize,
      learning_rate: this.live.learningRate,
      lr_scheduler_type: 'cosine',
      warmup_steps: WARMUP_STEPS,
      use_ema: true,
      ema_max_decay: EMA_DECAY,
      seed: this.setup.seed,
    });
  }
}
