import type { PointSet } from '../../src/datasets/points/points.ts';
import { noiseScaleForLambda } from '../../src/losses/minimiser.ts';
import { precisionRecallDensityCoverage } from '../../src/metrics/prdc/prdc.ts';
import { ConditionalDense } from '../../src/models/conditional-dense.ts';
import { RandomStream, STREAM } from '../../src/random/random-stream.ts';
import { DDPMScheduler } from '../../src/schedulers/ddpm.ts';
import { pointSamples } from '../../src/trainers/data/samples.ts';
import type { Frames, IsotropyByTime, Quality, RunSetup, SamplingSetup } from '../messages.ts';
import { NEAREST_K, NETWORK, SCHEDULE, TIMESTEPS } from '../settings.ts';
import { Denoiser } from './denoiser.ts';
import { someOf, trainingPoints } from './points.ts';
import { reverseProcess } from './reverse-process.ts';
import { Training } from './training.ts';

/** Noise for the forward process and for what is measured by timestep. */
const MEASURED_NOISE = 1;
/** Every so many timesteps the isotropy is measured. */
const TIMESTEP_STRIDE = 3;

/** A model of points that is being trained, and what the page asks of it. */
export class ModelRun {
  readonly model: ConditionalDense;
  readonly scheduler: DDPMScheduler;
  /** Points of the data that are shown and measured. */
  readonly real: Float32Array;

  private constructor(
    private readonly setup: RunSetup,
    readonly points: PointSet,
    readonly training: Training,
    private readonly denoiser: Denoiser,
    { model, scheduler }: { readonly model: ConditionalDense; readonly scheduler: DDPMScheduler },
  ) {
    this.model = model;
    this.scheduler = scheduler;
    this.real = someOf(points);
  }

  static async begin(setup: RunSetup): Promise<ModelRun> {
    const points = trainingPoints(setup.points);
    const model = new ConditionalDense(NETWORK);
    const scheduler = new DDPMScheduler({ ...SCHEDULE, clip_sample: false });
    const denoiser = await Denoiser.create(model);
    const training = await Training.begin({ model, scheduler, samples: pointSamples(points), device: 'cpu' }, setup);
    return new ModelRun(setup, points, training, denoiser, { model, scheduler });
  }

  /** The frames of the reverse process: pure noise first, the drawn points last. */
  async reverse({ count, steps, lambda }: SamplingSetup): Promise<Frames> {
    const scale = await this.noiseScale(lambda);
    await this.lookAtModel();
    const noise = new RandomStream(this.setup.seed, STREAM.sampling).fillNormal(new Float32Array(2 * count));
    return reverseProcess(this.denoiser, this.scheduler, noise, { steps, scale });
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
    await this.training.release();
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
    this.denoiser.use(await this.training.weights());
  }
}

function meanSquare(values: Float32Array): number {
  return values.reduce((sum, value) => sum + value * value, 0) / values.length;
}
