/** Images in a square, one after another, each pixel a square of its own. */
export class ImageGrid {
  private readonly context: CanvasRenderingContext2D;

  constructor(
    canvas: HTMLCanvasElement,
    private readonly side: number,
    private readonly columns: number,
  ) {
    canvas.width = side * columns;
    canvas.height = side * columns;
    const context = canvas.getContext('2d');
    if (!context) throw new Error('This browser cannot draw on a canvas.');
    this.context = context;
  }

  /** @param pixels [count, side, side, channels] in [0, 255]. */
  show(first: number, pixels: Uint8Array | Uint8ClampedArray, channels: 1 | 3): void {
    const { side, columns } = this;
    const size = side * side * channels;
    for (let image = 0; image < pixels.length / size; image++) {
      const tile = this.context.createImageData(side, side);
      for (let pixel = 0; pixel < side * side; pixel++) {
        for (let channel = 0; channel < 3; channel++)
          tile.data[4 * pixel + channel] = pixels[image * size + pixel * channels + (channel % channels)] ?? 0;
        tile.data[4 * pixel + 3] = 255;
      }
      const place = first + image;
      this.context.putImageData(tile, side * (place % columns), side * Math.floor(place / columns));
    }
  }
}
