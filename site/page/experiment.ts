import type { Changes, Commands, Frames, IsotropyByTime, PointData, Quality, Row } from '../messages.ts';
import { CHUNK, MEASURED_POINTS, SHOWN_POINTS } from '../settings.ts';
import { ModelWorker } from './model-worker.ts';

export const SIDES = ['plain', 'iso'] as const;
/** 'plain' trains without the penalty, 'iso' with it. */
export type Side = (typeof SIDES)[number];
export type Both<T> = Readonly<Record<Side, T>>;

/** Steps of DPM-Solver++ for a picture. */
const SAMPLING_STEPS = 20;
/** Milliseconds between two pictures and between two measurements, at least. */
const PICTURE_INTERVAL = 700;
const MEASURE_INTERVAL = 4000;
/** Milliseconds that a chunk of steps should take: so long a command can have to wait. */
const CHUNK_TIME = 100;
/** Pictures and measurements take at most about a quarter of the time. */
const SHARE = 3;

export interface Settings {
  readonly points: PointData;
  readonly seed: number;
  readonly batchSize: number;
  readonly learningRate: number;
  readonly lambda: number;
}

/** What the page is told. */
export interface Listener {
  begun(real: Float32Array): void;
  rows(rows: Both<readonly Row[]>, learningRate: number): void;
  drawn(points: Both<Float32Array>): void;
  measured(quality: Both<Quality>, isotropy: Both<IsotropyByTime>): void;
  stopped(reason: 'paused' | 'finished'): void;
  failed(error: Error): void;
}

class PointWorker extends ModelWorker<Commands> {}

/** The two models, each in a worker: the same seed, batches and noise, one without the penalty. */
export class Experiment {
  private readonly workers: Both<PointWorker>;
  private settings: Settings | undefined;
  private playing = false;
  /** Whether a run of steps, or its last picture, is not over. */
  isBusy = false;
  private loop: Promise<void> = Promise.resolve();
  private next = { picture: 0, measure: 0 };
  /** Steps of the next chunk. */
  private chunk = 1;
  /** Steps that both have taken. */
  steps = 0;
  /** Lambda that the left model is shown with, without training with it. */
  predicted: number | undefined;

  constructor(
    script: URL,
    private readonly listener: Listener,
  ) {
    this.workers = { plain: new PointWorker(script), iso: new PointWorker(script) };
  }

  get isPlaying(): boolean {
    return this.playing;
  }

  get hasBegun(): boolean {
    return this.settings !== undefined;
  }

  /** New models in place of those before. */
  async begin(settings: Settings): Promise<void> {
    await this.pause();
    const { points, seed, batchSize, learningRate, lambda } = settings;
    const shared = { points, seed, batchSize, learningRate };
    const [{ real }] = await Promise.all([
      this.workers.plain.ask('begin', { ...shared, lambda: 0, lambdaChanges: false }),
      this.workers.iso.ask('begin', { ...shared, lambda, lambdaChanges: true }),
    ]);
    this.settings = settings;
    this.steps = 0;
    this.listener.begun(real);
  }

  /** Trains until it is paused, or both have taken `until` steps. */
  play(until = Number.POSITIVE_INFINITY): void {
    if (this.playing) return;
    this.playing = true;
    this.isBusy = true;
    this.loop = this.run(until);
  }

  async pause(): Promise<void> {
    this.playing = false;
    await this.loop;
  }

  async oneStep(): Promise<void> {
    await this.pause();
    await this.train(1);
    await this.picture();
  }

  async change(changes: Changes): Promise<void> {
    if (!this.settings) return;
    this.settings = { ...this.settings, ...changes };
    await this.both((worker) => worker.ask('change', changes));
  }

  /** All moments of a process, of the models as they are now. */
  async frames(process: 'reverse' | 'forward', count: number): Promise<Both<Frames>> {
    if (process === 'forward') return this.both((worker) => worker.ask('forward', { count }));
    return this.both((worker, side) => worker.ask('reverse', this.sampling(side, count)));
  }

  async picture(): Promise<void> {
    const drawn = await this.both((worker, side) => worker.ask('draw', this.sampling(side, SHOWN_POINTS)));
    this.listener.drawn(drawn);
  }

  async measure(): Promise<void> {
    const measured = await this.both((worker, side) => worker.ask('measure', this.sampling(side, MEASURED_POINTS)));
    const isotropy = await this.both((worker) => worker.ask('isotropy', {}));
    this.listener.measured({ plain: measured.plain.quality, iso: measured.iso.quality }, isotropy);
  }

  save(side: Side, format: 'onnx' | 'zip'): Promise<Uint8Array<ArrayBuffer>> {
    return this.workers[side].ask('save', { format });
  }

  /** Puts the weights of a file into each model. */
  async load(files: Both<Commands['load']['given']>): Promise<void> {
    await this.pause();
    await this.both((worker, side) => worker.ask('load', files[side]));
    this.steps = 0;
  }

  private async run(until: number): Promise<void> {
    let finished = false;
    try {
      while (this.playing && !finished && this.steps < until) {
        const begun = performance.now();
        const steps = Math.min(this.chunk, until - this.steps);
        finished = !(await this.train(steps));
        const fitting = Math.floor((steps * CHUNK_TIME) / (performance.now() - begun));
        this.chunk = Math.min(CHUNK, Math.max(1, fitting, Math.ceil(this.chunk / 2)), 2 * this.chunk);
        if (performance.now() > this.next.picture) this.next.picture = await after(PICTURE_INTERVAL, this.picture());
        if (performance.now() > this.next.measure) this.next.measure = await after(MEASURE_INTERVAL, this.measure());
      }
      await this.picture();
      await this.measure();
      this.playing = false;
      this.isBusy = false;
      this.listener.stopped(finished ? 'finished' : 'paused');
    } catch (error) {
      this.playing = false;
      this.isBusy = false;
      this.listener.failed(error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** Whether steps were left. */
  private async train(steps: number): Promise<boolean> {
    const trained = await this.both((worker) => worker.ask('train', { steps }));
    this.steps += trained.iso.rows.length;
    this.listener.rows({ plain: trained.plain.rows, iso: trained.iso.rows }, trained.iso.learningRate);
    return trained.iso.rows.length > 0;
  }

  private sampling(side: Side, count: number) {
    const lambda = side === 'plain' ? this.predicted : undefined;
    return { count, steps: SAMPLING_STEPS, ...(lambda === undefined ? {} : { lambda }) };
  }

  private async both<T>(ask: (worker: PointWorker, side: Side) => Promise<T>): Promise<Both<T>> {
    const [plain, iso] = await Promise.all([ask(this.workers.plain, 'plain'), ask(this.workers.iso, 'iso')]);
    return { plain, iso };
  }
}

/** When something may be done again that has just been done. */
async function after(interval: number, work: Promise<void>): Promise<number> {
  const begun = performance.now();
  await work;
  const now = performance.now();
  return now + Math.max(interval, SHARE * (now - begun));
}
