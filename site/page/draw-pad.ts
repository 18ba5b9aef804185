import { Surface } from './canvas.ts';

/** Points that one moment of drawing adds, and how far around the pen they lie, in pixels. */
const SPRAY = 6;
const SPREAD = 7;
/** Pixels that an arrow key moves the cross. */
const KEY_STEP = 12;
const MOST_POINTS = 20_000;

/** Where users draw points of their own, with a pointer or the keyboard. */
export class DrawPad {
  private readonly surface: Surface;
  private readonly drawn: number[] = [];
  private cross: { x: number; y: number } | undefined;

  constructor(private readonly canvas: HTMLCanvasElement) {
    this.surface = new Surface(canvas, () => this.draw());
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.spray(event.offsetX, event.offsetY);
    });
    canvas.addEventListener('pointermove', (event) => {
      if (event.buttons > 0) this.spray(event.offsetX, event.offsetY);
    });
    canvas.addEventListener('keydown', (event) => this.key(event));
  }

  /** x and y of the points, y upwards. */
  get points(): Float64Array {
    const { clientHeight } = this.canvas;
    return Float64Array.from(this.drawn, (value, i) => (i % 2 === 0 ? value : clientHeight - value));
  }

  clear(): void {
    this.drawn.length = 0;
    this.draw();
  }

  private key(event: KeyboardEvent): void {
    const { clientWidth, clientHeight } = this.canvas;
    const { x, y } = this.cross ?? { x: clientWidth / 2, y: clientHeight / 2 };
    const moves: Record<string, readonly [number, number]> = {
      ArrowLeft: [-KEY_STEP, 0],
      ArrowRight: [KEY_STEP, 0],
      ArrowUp: [0, -KEY_STEP],
      ArrowDown: [0, KEY_STEP],
      ' ': [0, 0],
    };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    this.cross = {
      x: Math.min(clientWidth, Math.max(0, x + move[0])),
      y: Math.min(clientHeight, Math.max(0, y + move[1])),
    };
    if (event.key === ' ') this.spray(this.cross.x, this.cross.y);
    else this.draw();
  }

  private spray(x: number, y: number): void {
    for (let i = 0; i < SPRAY && this.drawn.length < 2 * MOST_POINTS; i++) {
      const angle = 2 * Math.PI * Math.random();
      const radius = SPREAD * Math.sqrt(Math.random());
      this.drawn.push(x + radius * Math.cos(angle), y + radius * Math.sin(angle));
    }
    this.draw();
  }

  private draw(): void {
    this.surface.paint((context, _width, _height, color) => {
      context.fillStyle = color('--iso');
      for (let i = 0; i < this.drawn.length; i += 2)
        context.fillRect((this.drawn[i] ?? 0) - 1, (this.drawn[i + 1] ?? 0) - 1, 2, 2);
      if (!this.cross) return;
      const { x, y } = this.cross;
      context.strokeStyle = color('--text');
      context.strokeRect(x - 5, y - 5, 10, 10);
    });
  }
}
