import type { Row } from '../messages.ts';
import { MAX_STEPS, SHOWN_POINTS } from '../settings.ts';
import { type Controls, readControls, showState } from './controls.ts';
import { type Both, Experiment, type Listener, type Side } from './experiment.ts';
import { readFirstPicture, readyWeights } from './first-picture.ts';
import { download } from './page-elements.ts';
import { pointDataOf, readCsv } from './point-data.ts';
import { FIRST_STATE, fromHash, OWN_SET, type PageState, toHash } from './state.ts';
import { Views } from './views.ts';

const MAX_MODEL_BYTES = 64 * 2 ** 20;
const URL_INTERVAL = 500;

/** The page: its state, the two models, and what is done when. */
export class App {
  state: PageState;
  private readonly views = new Views();
  private readonly experiment: Experiment;
  private log: Both<Row[]> = { plain: [], iso: [] };
  private speed = { steps: 0, since: 0, text: '' };
  private urlTimer: number | undefined;
  /** Whether the models are those that come with the page. */
  private isReady = false;
  /** What the models and pictures follow. */
  private applied: PageState;
  /** The points that the models learn, to return to. */
  private learned: Pick<PageState, 'set' | 'own'> = FIRST_STATE;

  constructor(
    private readonly controls: Controls,
    workerScript: URL,
  ) {
    this.state = fromHash(location.hash);
    this.applied = this.state;
    this.experiment = new Experiment(workerScript, this.listener());
    showState(controls, this.state);
  }

  /** The first picture, or what the link says. */
  async open(): Promise<void> {
    const { steps, set } = this.state;
    if (steps > 0 || set !== FIRST_STATE.set) {
      await this.restart();
      if (steps > 0) this.experiment.play(steps);
      return this.showControls();
    }
    const { real, reverse, forward, measured } = await readFirstPicture();
    if (this.experiment.hasBegun) return;
    this.views.clear(real);
    const end = (side: Side) => reverse[side].frames.at(-1) ?? new Float32Array();
    this.views.setDrawn({ plain: end('plain'), iso: end('iso') });
    this.views.setFrames('reverse', reverse);
    this.views.setFrames('forward', forward);
    const { plain, iso } = measured;
    this.views.setMeasured({ plain: plain.quality, iso: iso.quality }, { plain: plain.isotropy, iso: iso.isotropy });
    this.show();
  }

  async playOrPause(): Promise<void> {
    if (this.experiment.isPlaying) await this.experiment.pause();
    else {
      if (!this.experiment.hasBegun || this.isReady) await this.restart();
      this.speed = { steps: this.experiment.steps, since: performance.now(), text: '' };
      this.experiment.play();
    }
    this.showControls();
  }

  async oneStep(): Promise<void> {
    if (!this.experiment.hasBegun || this.isReady) await this.restart();
    await this.experiment.oneStep();
    this.showControls();
  }

  /** Begins anew, and goes on if the models were training. */
  async restart(): Promise<void> {
    const { isPlaying } = this.experiment;
    const { state } = this;
    const { set, own } = state;
    this.say('Loading…');
    try {
      await this.experiment.begin({
        points: pointDataOf(state),
        seed: state.seed,
        batchSize: state.batch,
        learningRate: state.rate,
        lambda: state.lambda,
      });
    } catch (error) {
      this.state = { ...this.state, ...this.learned };
      this.applied = this.state;
      this.showControls();
      throw error;
    }
    this.isReady = false;
    this.learned = { set, own };
    this.say('');
    this.experiment.predicted = state.predicted ? state.lambda : undefined;
    if (isPlaying) this.experiment.play();
    else await this.experiment.picture();
    this.showControls();
  }

  /** Takes over what the controls say. `apply` then does what follows from it. */
  readControls(): void {
    this.state = { ...this.state, ...readControls(this.controls) };
    this.showControls();
    this.show();
  }

  /** Does what follows from the changes of the state since the last call. */
  async apply(): Promise<void> {
    const before = this.applied;
    const now = this.state;
    this.applied = now;
    const isNew = now.set !== before.set || now.seed !== before.seed || now.batch !== before.batch;
    if (isNew) return this.restart();
    this.experiment.predicted = now.predicted ? now.lambda : undefined;
    if (now.lambda !== before.lambda || now.rate !== before.rate)
      await this.experiment.change({ lambda: now.lambda, learningRate: now.rate });
    const predictionChanged = now.predicted && (now.lambda !== before.lambda || !before.predicted);
    if (predictionChanged || now.predicted !== before.predicted) await this.predict();
    else if (now.view !== before.view) await this.refreshFrames();
    this.show();
  }

  /** Shows the other tab; what trains on this one pauses. */
  async showTab(tab: PageState['tab']): Promise<void> {
    if (tab === 'images') await this.experiment.pause();
    this.state = { ...this.state, tab };
    this.showControls();
  }

  async useOwn(own: Float64Array): Promise<void> {
    this.state = { ...this.state, own, set: OWN_SET };
    this.applied = this.state;
    showState(this.controls, this.state);
    await this.restart();
  }

  /** A file from a dialog or dropped on the page. */
  async openFile(file: File): Promise<void> {
    if (!/\.(onnx|zip)$/i.test(file.name)) return this.useOwn(await readCsv(file));
    if (file.size > MAX_MODEL_BYTES)
      throw new Error(`${file.name} is too large: the models of this page have less than 2 MB.`);
    if (!this.experiment.hasBegun) await this.restart();
    const given = { name: file.name, bytes: new Uint8Array(await file.arrayBuffer()) };
    await this.experiment.load({ plain: given, iso: given });
    this.isReady = false;
    this.log = { plain: [], iso: [] };
    await this.experiment.picture();
    await this.experiment.measure();
    this.showControls();
  }

  async save(side: Side, format: 'onnx' | 'zip'): Promise<void> {
    if (!this.experiment.hasBegun) await this.openReady();
    const bytes = await this.experiment.save(side, format);
    download(format === 'onnx' ? 'model.onnx' : 'pipeline.zip', bytes, 'application/octet-stream');
  }

  saveLog(): void {
    const { plain, iso } = this.log;
    if (plain.length === 0) throw new Error('There is no loss yet: press Train first.');
    const lines = plain.map(({ step, loss, isotropy }, i) =>
      [step, loss, isotropy, iso[i]?.loss, iso[i]?.isotropy].join(),
    );
    download('loss.csv', `step,loss_0,isotropy_0,loss_lambda,isotropy_lambda\n${lines.join('\n')}\n`, 'text/csv');
  }

  link(): string {
    return new URL(toHash(this.state), location.href).href;
  }

  say(message: string): void {
    this.controls.message.textContent = message;
  }

  private listener(): Listener {
    return {
      begun: (real) => {
        this.log = { plain: [], iso: [] };
        this.views.clear(real);
        this.show();
      },
      rows: (rows) => {
        this.log.plain.push(...rows.plain);
        this.log.iso.push(...rows.iso);
        this.views.addRows(rows);
        this.showControls();
      },
      drawn: (points) => {
        this.views.setDrawn(points);
        this.show();
        const { view } = this.state;
        if (view === 'reverse' || !this.views.hasFrames(view)) this.refreshFrames().catch((error) => this.fail(error));
      },
      measured: (quality, isotropy) => this.views.setMeasured(quality, isotropy),
      stopped: (reason) => {
        if (reason === 'finished') this.say(`The ${MAX_STEPS} steps are done. Reset begins anew.`);
        this.showControls();
      },
      failed: (error) => this.fail(error),
    };
  }

  private fail(error: Error): void {
    this.say(error.message);
    this.showControls();
  }

  private async predict(): Promise<void> {
    if (!this.experiment.hasBegun) await this.openReady();
    if (this.experiment.isPlaying) return;
    await this.experiment.picture();
    await this.experiment.measure();
  }

  /** The models of the first picture, for what needs more than the picture. Training begins with new ones. */
  private async openReady(): Promise<void> {
    await this.restart();
    await this.experiment.load(await readyWeights());
    this.isReady = true;
    await this.experiment.picture();
    this.showControls();
  }

  private async refreshFrames(): Promise<void> {
    const { view } = this.state;
    if (view === 'live' || !this.experiment.hasBegun) return;
    this.views.setFrames(view, await this.experiment.frames(view, SHOWN_POINTS));
    this.show();
  }

  private show(): void {
    this.controls.timeValue.textContent = this.views.show(this.state);
  }

  private showControls(): void {
    const { experiment, controls } = this;
    const { steps, isPlaying } = experiment;
    this.state = { ...this.state, steps };
    controls.play.textContent = isPlaying ? 'Pause' : 'Train';
    controls.main.ariaBusy = String(experiment.isBusy);
    if (!isPlaying) this.speed.text = '';
    const seconds = (performance.now() - this.speed.since) / 1000;
    if (isPlaying && seconds > 1)
      this.speed.text = ` · ${Math.round((steps - this.speed.steps) / seconds)} steps a second`;
    if (experiment.hasBegun && !this.isReady)
      controls.progress.textContent = `${steps} of ${MAX_STEPS} steps${this.speed.text}`;
    showState(controls, this.state);
    // What comes with the page was trained with the first lambda.
    if (!experiment.hasBegun || this.isReady) controls.isoTitle.textContent = `λ = ${FIRST_STATE.lambda}`;
    this.urlTimer ??= window.setTimeout(() => {
      this.urlTimer = undefined;
      history.replaceState(null, '', toHash(this.state));
    }, URL_INTERVAL);
  }
}
