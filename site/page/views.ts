import type { Frames, IsotropyByTime, Quality, Row } from '../messages.ts';
import { TIMESTEPS } from '../settings.ts';
import { Bars } from './bars.ts';
import { Curves, Series } from './curves.ts';
import { type Both, SIDES, type Side } from './experiment.ts';
import { byId } from './page-elements.ts';
import { Scatter } from './scatter.ts';
import type { PageState } from './state.ts';

const COLORS: Both<string> = { plain: '--plain', iso: '--iso' };
const NO_POINTS = new Float32Array();
/** Points whose paths are drawn: more would be a blot. */
const PATHS = 150;

/** All pictures of the page. */
export class Views {
  private readonly scatters = each((side) => new Scatter(byId(side, HTMLCanvasElement), COLORS[side]));
  private readonly charts = {
    loss: new Curves(byId('loss', HTMLCanvasElement), { least: 0 }),
    isotropy: new Curves(byId('isotropy', HTMLCanvasElement), { goal: 1, least: 0.8 }),
    byTime: new Curves(byId('by-time', HTMLCanvasElement), { goal: 1, least: 0 }),
  };
  private readonly bars = new Bars(byId('bars', HTMLElement));
  private series = newSeries();
  private real: Float32Array = NO_POINTS;
  private drawn: Both<Float32Array> = { plain: NO_POINTS, iso: NO_POINTS };
  private frames: Partial<Record<PageState['view'], Both<Frames>>> = {};

  /** Nothing is drawn, measured or logged yet. */
  clear(real: Float32Array): void {
    this.real = real;
    this.drawn = { plain: NO_POINTS, iso: NO_POINTS };
    this.frames = {};
    this.series = newSeries();
    this.bars.show(undefined);
    this.charts.byTime.show([]);
    this.showCurves();
  }

  addRows(rows: Both<readonly Row[]>): void {
    for (const side of SIDES)
      for (const { step, loss, isotropy } of rows[side]) {
        this.series[side].loss.add(step, loss);
        this.series[side].isotropy.add(step, isotropy);
      }
    this.showCurves();
  }

  setDrawn(drawn: Both<Float32Array>): void {
    this.drawn = drawn;
  }

  hasFrames(process: PageState['view']): boolean {
    return this.frames[process] !== undefined;
  }

  setFrames(process: PageState['view'], frames: Both<Frames>): void {
    this.frames[process] = frames;
  }

  setMeasured(quality: Both<Quality>, isotropy: Both<IsotropyByTime>): void {
    this.bars.show(quality);
    const { timesteps, noisy } = isotropy.plain;
    this.charts.byTime.show([
      { color: '--muted', x: timesteps, y: noisy, dashed: true },
      ...SIDES.map((side) => ({ color: COLORS[side], x: timesteps, y: isotropy[side].predicted })),
    ]);
  }

  /** Draws the points of a moment. @returns what the time of the moment is called. */
  show({ view, time, paths }: PageState): string {
    const frames = this.frames[view];
    if (view === 'live' || !frames) {
      for (const side of SIDES) this.scatters[side].show({ real: this.real, drawn: this.drawn[side] });
      return '';
    }
    let name = '';
    for (const side of SIDES) {
      const { timesteps, frames: moments } = frames[side];
      const at = Math.round(time * (moments.length - 1));
      const timestep = timesteps[at] ?? -1;
      name = timestep < 0 ? 'data' : `t = ${timestep + 1} of ${TIMESTEPS}`;
      this.scatters[side].show({
        real: this.real,
        drawn: moments[at] ?? NO_POINTS,
        paths: paths ? moments.slice(0, at + 1).map((moment) => moment.subarray(0, 2 * PATHS)) : undefined,
      });
    }
    return name;
  }

  private showCurves(): void {
    for (const name of ['loss', 'isotropy'] as const)
      this.charts[name].show(
        SIDES.map((side) => ({ color: COLORS[side], x: this.series[side][name].x, y: this.series[side][name].y })),
      );
  }
}

function each<T>(make: (side: Side) => T): Both<T> {
  return { plain: make('plain'), iso: make('iso') };
}

function newSeries() {
  return each(() => ({ loss: new Series(), isotropy: new Series() }));
}
