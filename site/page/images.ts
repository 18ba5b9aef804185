import type { ImageCommands, ImageData8 } from '../messages.ts';
import { CHUNK, MAX_STEPS } from '../settings.ts';
import { Curves, Series } from './curves.ts';
import { digits, ownImages, SIDE } from './image-data.ts';
import { ImageGrid } from './image-grid.ts';
import { ModelWorker } from './model-worker.ts';
import { byId } from './page-elements.ts';

const COLUMNS = 6;
const BATCH_SIZE = 32;
const LEARNING_RATE = 0.003;
/** Milliseconds of a chunk of steps, and between two grids at least. */
const CHUNK_TIME = 150;
const GRID_INTERVAL = 3000;

/** The second tab: a U-Net that learns small images. Its worker begins with the first click. */
export class ImageTab {
  private readonly play = byId('image-play', HTMLButtonElement);
  private readonly lambda = byId('image-lambda', HTMLInputElement);
  private readonly solverSteps = byId('image-steps', HTMLInputElement);
  private readonly message = byId('image-message', HTMLElement);
  private readonly progress = byId('image-progress', HTMLElement);
  private readonly drawn = new ImageGrid(byId('image-grid', HTMLCanvasElement), SIDE, COLUMNS);
  private readonly real = new ImageGrid(byId('image-data', HTMLCanvasElement), SIDE, COLUMNS);
  private readonly charts = {
    loss: new Curves(byId('image-loss', HTMLCanvasElement), { least: 0 }),
    isotropy: new Curves(byId('image-isotropy', HTMLCanvasElement), { goal: 1, least: 0.8 }),
  };
  private series = { loss: new Series(), isotropy: new Series() };
  private worker: ModelWorker<ImageCommands> | undefined;
  private images: ImageData8 | undefined;
  private device = '';
  private steps = 0;
  private playing = false;
  private begun = false;
  private loop: Promise<void> = Promise.resolve();
  private last: Promise<unknown> = Promise.resolve();

  constructor() {
    this.play.addEventListener('click', () => this.attempt(() => this.playOrPause()));
    byId('image-reset', HTMLButtonElement).addEventListener('click', () => this.attempt(() => this.restart()));
    this.lambda.addEventListener('change', () => this.attempt(() => this.changeLambda()));
    this.solverSteps.addEventListener('change', () => this.attempt(() => this.redraw()));
    for (const [input, output] of [
      [this.lambda, 'image-lambda-value'],
      [this.solverSteps, 'image-steps-value'],
    ] as const)
      input.addEventListener('input', () => {
        byId(output, HTMLElement).textContent = input === this.lambda ? Number(input.value).toFixed(2) : input.value;
      });
    const files = byId('image-files', HTMLInputElement);
    files.addEventListener('change', () => {
      const chosen = [...(files.files ?? [])];
      files.value = '';
      if (chosen.length > 0) this.open(chosen);
    });
  }

  /** Learns these images from now on. */
  open(given: readonly File[] | Promise<readonly File[]>): void {
    this.attempt(async () => {
      const { images, left } = await ownImages(await given);
      this.images = images;
      await this.restart();
      if (left.length > 0)
        this.message.textContent = `${left.length} ${left.length === 1 ? 'file was' : 'files were'} left out: ${left[0]}.`;
    });
  }

  async pause(): Promise<void> {
    this.playing = false;
    await this.loop;
  }

  private async playOrPause(): Promise<void> {
    if (this.playing) return this.pause();
    if (!this.begun) await this.restart();
    this.playing = true;
    this.loop = this.run();
  }

  private async restart(): Promise<void> {
    await this.pause();
    this.message.textContent = 'Loading…';
    this.images ??= await digits();
    const { images } = this;
    this.worker ??= new ModelWorker(await workerScript());
    const lambda = Number(this.lambda.value);
    this.device = await this.worker.ask('begin', {
      images,
      seed: 0,
      batchSize: BATCH_SIZE,
      learningRate: LEARNING_RATE,
      lambda,
      lambdaChanges: true,
    });
    this.begun = true;
    this.steps = 0;
    this.series = { loss: new Series(), isotropy: new Series() };
    this.real.show(0, images.pixels.subarray(0, COLUMNS * COLUMNS * SIDE * SIDE * images.channels), images.channels);
    this.message.textContent = '';
    await this.redraw();
    this.show();
  }

  private async changeLambda(): Promise<void> {
    if (this.begun) await this.worker?.ask('change', { lambda: Number(this.lambda.value) });
  }

  private async run(): Promise<void> {
    let chunk = 1;
    let next = 0;
    try {
      while (this.playing && this.worker && this.steps < MAX_STEPS) {
        const begun = performance.now();
        const { rows } = await this.worker.ask('train', { steps: chunk });
        chunk = Math.min(CHUNK, Math.max(1, Math.floor((chunk * CHUNK_TIME) / (performance.now() - begun))), 2 * chunk);
        for (const { step, loss, isotropy } of rows) {
          this.series.loss.add(step, loss);
          this.series.isotropy.add(step, isotropy);
        }
        this.steps += rows.length;
        this.show();
        if (performance.now() < next) continue;
        const drawing = performance.now();
        await this.redraw();
        next = performance.now() + Math.max(GRID_INTERVAL, 3 * (performance.now() - drawing));
      }
    } catch (error) {
      this.say(error);
    }
    this.playing = false;
    this.show();
  }

  /** Draws the grid, row after row. */
  private async redraw(): Promise<void> {
    const { worker, images } = this;
    if (!worker || !images || !this.begun) return;
    const steps = Number(this.solverSteps.value);
    for (let first = 0; first < COLUMNS * COLUMNS; first += COLUMNS) {
      const pixels = await worker.ask('draw', { first, count: COLUMNS, steps });
      this.drawn.show(first, pixels, images.channels);
    }
  }

  private show(): void {
    this.play.textContent = this.playing ? 'Pause' : 'Train';
    if (this.begun)
      this.progress.textContent = `${this.steps} of ${MAX_STEPS} steps on ${this.device === 'webgpu' ? 'the GPU' : 'the CPU'}`;
    for (const name of ['loss', 'isotropy'] as const) {
      const { x, y } = this.series[name];
      this.charts[name].show([{ color: '--iso', x, y }]);
    }
  }

  private attempt(action: () => unknown): void {
    this.last = this.last.then(action).then(
      () => this.show(),
      (error: unknown) => this.say(error),
    );
  }

  private say(error: unknown): void {
    this.message.textContent = error instanceof Error ? error.message : String(error);
  }
}

/** With WebGPU where there is a real GPU: one in software is slower than the CPU itself. */
async function workerScript(): Promise<URL> {
  const { gpu } = navigator as Navigator & { gpu?: { requestAdapter(): Promise<GpuAdapter | null> } };
  const adapter = await gpu?.requestAdapter().catch(() => null);
  const isReal = adapter && !adapter.info?.isFallbackAdapter && adapter.info?.vendor !== 'google';
  return new URL(isReal ? './image-worker-webgpu.js' : './image-worker.js', import.meta.url);
}

interface GpuAdapter {
  readonly info?: { readonly isFallbackAdapter?: boolean; readonly vendor?: string };
}
