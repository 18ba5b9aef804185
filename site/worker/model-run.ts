import type { PointSet } from '../../src/datasets/points/points.ts';
import { isoLoss } from '../../src/losses/iso.ts';
import { noiseScaleForLambda } from '../../src/losses/minimiser.ts';
import { precisionRecallDensityCoverage } from '../../src/metrics/prdc/prdc.ts';
import { ConditionalDense } from '../../src/models/conditional-dense.ts';
import { initialVector } from '../../src/models/model.ts';
import { RandomStream, STREAM } from '../../src/random/random-stream.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { DPMSolverMultistepScheduler } from '../../src/schedulers/solvers/dpm-solver.ts';
import { BatchStream } from '../../src/trainers/data/batch-stream.ts';
import { pointSamples } from '../../src/trainers/data/samples.ts';
import { Engine } from '../../src/trainers/engines/engine.ts';
import { learningRateAt } from '../../src/trainers/schedules.ts';
import { stepSchedule, stepSettings } from '../../src/trainers/step/settings.ts';
import { resolveTrainingArguments } from '../../src/trainers/training-arguments.ts';
import { Denoiser } from '../engine/denoiser.ts';
import type { Frames, IsotropyByTime, Quality, Row, RunSetup, SamplingSetup } from '../messages.ts';
import { CHUNK, EMA_DECAY, MAX_STEPS, NEAREST_K, NETWORK, SCHEDULE, TIMESTEPS, WARMUP_STEPS } from '../settings.ts';
import { someOf, trainingPoints } from './points.ts';

/** Noise for the forward process and for what is measured by timestep. */
const MEASURED_NOISE = 1;
/** Every so many timesteps the isotropy is measured. */
const TIMESTEP_STRIDE = 3;

/** A model of points that is being trained, and what the page asks of it. */
export class ModelRun {
  readonly model = new ConditionalDense(NETWORK);
  readonly scheduler = new DDPMScheduler({ ...SCHEDULE, clip_sample: false });
  readonly real: Float32Array;
  /** Read anew for each step. */
  private readonly live: { learningRate: number; lossScalars: Record<string, number> };
  private done = 0;

  private constructor(
    private readonly setup: RunSetup,
    readonly points: PointSet,
    private readonly denoiser: Denoiser,
  ) {
    this.real = someOf(points);
    this.live = {
      learningRate: setup.learningRate,
      lossScalars: setup.lambdaChanges ? { lambda: setup.lambda } : {},
    };
  }

  private engine: Engine | undefined;

  static async begin(setup: RunSetup): Promise<ModelRun> {
    const points = trainingPoints(setup.points);
    const denoiser = await Denoiser.create(new ConditionalDense(NETWORK));
    const run = new ModelRun(setup, points, denoiser);
    await run.restart(initialVector(run.model, setup.seed));
    return run;
  }

  /** Begins to train from these weights. */
  async restart(parameters: Float32Array): Promise<void> {
    const { setup, live, model, scheduler } = this;
    const args = this.arguments;
    const settings = stepSettings(
      {
        model,
        loss: isoLoss({ lambda: setup.lambda }),
        noise_scheduler: scheduler,
        changeable_scalars: Object.keys(live.lossScalars),
      },
      args,
    );
    const batches = new BatchStream(pointSamples(this.points), {
      batchSize: setup.batchSize,
      trainTimesteps: TIMESTEPS,
      seed: setup.seed,
    });
    const initial = new Map([
      ['parameters' as const, parameters],
      ['ema' as const, parameters],
    ]);
    await this.engine?.release();
    this.engine = await Engine.create(
      settings,
      { device: 'cpu' },
      initial,
      batches,
      stepSchedule(args, MAX_STEPS, live),
    );
    this.done = 0;
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

  change({ lambda, learningRate }: { readonly lambda?: number; readonly learningRate?: number }): void {
    if (lambda !== undefined && 'lambda' in this.live.lossScalars) this.live.lossScalars.lambda = lambda;
    if (learningRate !== undefined) this.live.learningRate = learningRate;
  }

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

  /** The frames of the reverse process: pure noise first, the drawn points last. */
  async reverse({ count, steps, lambda }: SamplingSetup): Promise<Frames> {
    const scale = await this.noiseScale(lambda);
    await this.lookAtModel();
    const solver = new DPMSolverMultistepScheduler({ ...this.scheduler.config, timestep_spacing: 'trailing' });
    solver.setTimesteps(steps);
    let x: Float32Array = new RandomStream(this.setup.seed, STREAM.sampling).fillNormal(new Float32Array(2 * count));
    const frames = [x];
    for (const timestep of solver.timesteps) {
      const epsilon = await this.denoiser.predict(x, timestep);
      x = solver.step(scale === 1 ? epsilon : epsilon.map((value) => scale * value), timestep, x).prev_sample;
      frames.push(x);
    }
    return { timesteps: [...solver.timesteps, -1], frames };
  }

  async draw(setup: SamplingSetup): Promise<Float32Array> {
    return (await this.reverse(setup)).frames.at(-1) ?? new Float32Array();
  }

  async measure(setup: SamplingSetup): Promise<{ quality: Quality; points: Float32Array }> {
    const points = await this.draw(setup);
    const real = { data: this.real, count: this.real.length / 2, dims: 2 };
    const fake = { data: points, count: setup.count, dims: 2 };
    return { quality: await precisionRecallDensityCoverage(real, fake, { nearest_k: NEAREST_K }), points };
  }

  /** Points of the data with more and more noise: the data first, the last timestep last. */
  forward(count: number): Frames {
    const clean = this.real.subarray(0, 2 * count);
    const timesteps = Array.from({ length: TIMESTEPS }, (_, t) => t);
    return { timesteps: [-1, ...timesteps], frames: [clean.slice(), ...timesteps.map((t) => this.noised(clean, t))] };
  }

  /** Mean squares of x_t and of the predicted noise at some timesteps. */
  async isotropy(): Promise<IsotropyByTime> {
    await this.lookAtModel();
    const timesteps: number[] = [];
    const noisy: number[] = [];
    const predicted: number[] = [];
    for (let t = 0; t < TIMESTEPS; t += TIMESTEP_STRIDE) {
      const x = this.noised(this.real, t);
      timesteps.push(t);
      noisy.push(meanSquare(x));
      predicted.push(meanSquare(await this.denoiser.predict(x, t)));
    }
    return { timesteps, noisy, predicted };
  }

  async release(): Promise<void> {
    await this.engine?.release();
    await this.denoiser.release();
  }

  private noised(clean: Float32Array, timestep: number): Float32Array {
    const noise = new RandomStream(this.setup.seed, STREAM.metrics, MEASURED_NOISE).fillNormal(clean.slice());
    return this.scheduler.addNoise(clean, noise, Array(clean.length / 2).fill(timestep), 2);
  }

  /** By what the predicted noise is multiplied, so that the model is that of another lambda (docs/theory.md). */
  private async noiseScale(lambda: number | undefined): Promise<number> {
    if (lambda === undefined) return 1;
    const { predicted } = await this.isotropy();
    const isotropy = predicted.reduce((sum, value) => sum + value, 0) / predicted.length;
    return noiseScaleForLambda(lambda, { isotropy: Math.min(1, isotropy), lambda: this.setup.lambda });
  }

  private async lookAtModel(): Promise<void> {
    this.denoiser.use(await this.weights());
  }
}

function meanSquare(values: Float32Array): number {
  return values.reduce((sum, value) => sum + value * value, 0) / values.length;
}
