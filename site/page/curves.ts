import { Surface } from './canvas.ts';

export interface Curve {
  /** The name of a CSS property. */
  readonly color: string;
  readonly x: readonly number[];
  readonly y: readonly number[];
  readonly dashed?: boolean;
}

const MARGIN = { left: 44, right: 8, top: 8, bottom: 20 };
const TICKS = 4;

/** Lines over steps or timesteps, with a goal line where there is one. */
export class Curves {
  private readonly surface: Surface;
  private curves: readonly Curve[] = [];

  constructor(
    canvas: HTMLCanvasElement,
    private readonly options: { readonly goal?: number; readonly least?: number; readonly most?: number } = {},
  ) {
    this.surface = new Surface(canvas, () => this.draw());
  }

  show(curves: readonly Curve[]): void {
    this.curves = curves;
    this.draw();
  }

  private draw(): void {
    const { goal, least = Number.POSITIVE_INFINITY, most = Number.NEGATIVE_INFINITY } = this.options;
    const ys = this.curves.flatMap(({ y }) => y).filter(Number.isFinite);
    const xs = this.curves.flatMap(({ x }) => [x[0] ?? 0, x.at(-1) ?? 1]);
    const low = Math.min(least, ...ys, goal ?? Number.POSITIVE_INFINITY, 1e9);
    const high = Math.max(most, ...ys, goal ?? Number.NEGATIVE_INFINITY, low + 1e-6);
    const [start, end] = [Math.min(...xs, 0), Math.max(...xs, 1)];
    this.surface.paint((context, width, height, color) => {
      const plot = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
      const px = (x: number) => MARGIN.left + (plot.width * (x - start)) / (end - start);
      const py = (y: number) => MARGIN.top + plot.height * (1 - (y - low) / (high - low));
      context.fillStyle = color('--muted');
      context.strokeStyle = color('--line');
      context.lineWidth = 1;
      context.textAlign = 'right';
      context.textBaseline = 'middle';
      for (let tick = 0; tick <= TICKS; tick++) {
        const y = low + ((high - low) * tick) / TICKS;
        line(context, [MARGIN.left, width - MARGIN.right], [py(y), py(y)]);
        context.fillText(y.toFixed(2), MARGIN.left - 6, py(y));
      }
      context.textBaseline = 'top';
      context.fillText(String(Math.round(end)), width - MARGIN.right, height - MARGIN.bottom + 4);
      context.textAlign = 'left';
      context.fillText(String(Math.round(start)), MARGIN.left, height - MARGIN.bottom + 4);
      if (goal !== undefined) {
        context.strokeStyle = color('--goal');
        context.setLineDash([6, 4]);
        line(context, [MARGIN.left, width - MARGIN.right], [py(goal), py(goal)]);
      }
      context.lineWidth = 1.5;
      for (const curve of this.curves) {
        context.strokeStyle = color(curve.color);
        context.setLineDash(curve.dashed ? [3, 3] : []);
        line(context, curve.x.map(px), curve.y.map(py));
      }
      context.setLineDash([]);
    });
  }
}

/** A single point is a dot. */
function line(context: CanvasRenderingContext2D, x: readonly number[], y: readonly number[]): void {
  context.beginPath();
  if (x.length === 1) context.arc(x[0] ?? 0, y[0] ?? 0, 1.5, 0, 2 * Math.PI);
  x.forEach((at, i) => {
    if (i === 0) context.moveTo(at, y[i] ?? 0);
    else context.lineTo(at, y[i] ?? 0);
  });
  context.stroke();
}

/** Many values as at most `length` means of neighbours, with where they lie. */
export class Series {
  readonly x: number[] = [];
  readonly y: number[] = [];
  private sum = 0;
  private count = 0;
  private width = 10;

  constructor(private readonly length = 400) {}

  add(x: number, y: number): void {
    this.sum += y;
    this.count += 1;
    if (this.count < this.width) return;
    this.x.push(x);
    this.y.push(this.sum / this.count);
    this.sum = 0;
    this.count = 0;
    if (this.x.length < this.length) return;
    for (let i = 0; i < this.length / 2; i++) {
      this.x[i] = this.x[2 * i + 1] ?? 0;
      this.y[i] = ((this.y[2 * i] ?? 0) + (this.y[2 * i + 1] ?? 0)) / 2;
    }
    this.x.length = this.length / 2;
    this.y.length = this.length / 2;
    this.width *= 2;
  }
}
