import { Surface } from './canvas.ts';

/** Points further out are not shown: noise has a standard deviation of 1, the data one of 2. */
const HALF_WIDTH = 5.5;
/** Half the edge of a point, in pixels: less on small canvases. */
const RADIUS = 1.7;
const FULL_SIZE = 400;

export interface Picture {
  /** Points of the data, in grey behind the others; none where there is nothing yet. */
  readonly real: Float32Array;
  readonly drawn: Float32Array;
  /** The same points at earlier moments: lines are drawn through them. */
  readonly paths?: readonly Float32Array[] | undefined;
}

/** Drawn points over real ones. */
export class Scatter {
  private readonly surface: Surface;
  private picture: Picture = { real: new Float32Array(), drawn: new Float32Array() };

  /** @param color the name of a CSS property. */
  constructor(
    canvas: HTMLCanvasElement,
    private readonly color: string,
  ) {
    this.surface = new Surface(canvas, () => this.draw());
  }

  show(picture: Picture): void {
    this.picture = picture;
    this.draw();
  }

  private draw(): void {
    const { real, drawn, paths } = this.picture;
    this.surface.paint((context, width, height, color) => {
      const scale = Math.min(width, height) / (2 * HALF_WIDTH);
      const x = (value: number) => width / 2 + scale * value;
      const y = (value: number) => height / 2 - scale * value;
      const dots = (points: Float32Array, fill: string, radius: number) => {
        context.fillStyle = fill;
        for (let i = 0; i < points.length; i += 2)
          context.fillRect(x(points[i] ?? 0) - radius, y(points[i + 1] ?? 0) - radius, 2 * radius, 2 * radius);
      };
      const radius = RADIUS * Math.min(1, Math.max(0.5, width / FULL_SIZE));
      dots(real, color('--real'), 0.6 * radius);
      if (paths) {
        context.strokeStyle = color(this.color);
        context.globalAlpha = 0.25;
        context.beginPath();
        for (let i = 0; i < drawn.length; i += 2)
          paths.forEach((points, moment) => {
            const [px, py] = [x(points[i] ?? 0), y(points[i + 1] ?? 0)];
            if (moment === 0) context.moveTo(px, py);
            else context.lineTo(px, py);
          });
        context.stroke();
        context.globalAlpha = 1;
      }
      dots(drawn, color(this.color), radius);
    });
  }
}
