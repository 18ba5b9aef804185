import type { PixelImage } from '../image-set.ts';

/* PBM, PGM and PPM, as text or as bytes (https://netpbm.sourceforge.net/doc/ppm.html). libvips as shipped lacks them. */

/**
 * The pixels of a PBM, PGM or PPM file, the first where it has several: grey or RGB, scaled to 0..255.
 *
 * @throws an error for a damaged file.
 */
export function decodeNetpbm(bytes: Uint8Array, maxPixels: number): PixelImage {
  const kind = (bytes[1] as number) - 0x30;
  const reader = new Reader(bytes);
  const isBitmap = kind === 1 || kind === 4;
  const [width, height] = [reader.number(), reader.number()];
  const max = isBitmap ? 1 : reader.number();
  if (width < 1 || height < 1 || max < 1 || max > 65535)
    throw new Error(`a PPM of ${width}x${height} pixels of 0 to ${max} is not read`);
  if (width * height > maxPixels) throw new Error(`a PPM of ${width}x${height} pixels is too large`);
  const channels = kind === 3 || kind === 6 ? 3 : 1;
  const pixels = new Uint8Array(width * height * channels);
  const scaled = (value: number) => Math.min(255, Math.round((value * 255) / max));
  if (kind === 4) {
    reader.fillBits(pixels, width);
  } else if (kind > 4) {
    const wide = max > 255;
    const values = reader.values(pixels.length, wide ? 2 : 1);
    for (let i = 0; i < pixels.length; i++) pixels[i] = scaled(wide ? values.getUint16(2 * i) : values.getUint8(i));
  } else if (kind === 1) {
    for (let i = 0; i < pixels.length; i++) pixels[i] = reader.digit() ? 0 : 255;
  } else {
    for (let i = 0; i < pixels.length; i++) pixels[i] = scaled(reader.number());
  }
  return { pixels, height, width, channels };
}

const isBlank = (byte: number | undefined) => byte === 0x20 || (byte !== undefined && byte >= 9 && byte <= 13);
const isDigit = (byte: number | undefined) => byte !== undefined && byte >= 0x30 && byte <= 0x39;

class Reader {
  private at = 2;

  constructor(private readonly bytes: Uint8Array) {}

  /** The next number; one blank after it is passed over too. */
  number(): number {
    this.skipBlanks();
    let value = 0;
    const begin = this.at;
    while (isDigit(this.bytes[this.at]) && this.at < begin + 10)
      value = value * 10 + (this.bytes[this.at++] as number) - 0x30;
    if (this.at === begin) throw this.damaged();
    if (isBlank(this.bytes[this.at])) this.at++;
    return value;
  }

  /** The next 0 or 1, which need not be apart. */
  digit(): boolean {
    this.skipBlanks();
    const byte = this.bytes[this.at++];
    if (byte !== 0x30 && byte !== 0x31) throw this.damaged();
    return byte === 0x31;
  }

  values(count: number, bytesEach: number): DataView {
    const length = count * bytesEach;
    if (this.at + length > this.bytes.length) throw this.damaged();
    return new DataView(this.bytes.buffer, this.bytes.byteOffset + this.at, length);
  }

  /** Eight pixels a byte, 1 for black; each row begins with a byte. */
  fillBits(pixels: Uint8Array, width: number): void {
    const rowBytes = Math.ceil(width / 8);
    const values = this.values(rowBytes * (pixels.length / width), 1);
    for (let i = 0; i < pixels.length; i++) {
      const x = i % width;
      const byte = values.getUint8(Math.floor(i / width) * rowBytes + (x >> 3));
      pixels[i] = (byte >> (7 - (x & 7))) & 1 ? 0 : 255;
    }
  }

  private skipBlanks(): void {
    for (;;) {
      const byte = this.bytes[this.at];
      if (byte === 0x23) while (this.at < this.bytes.length && this.bytes[this.at] !== 0x0a) this.at++;
      else if (isBlank(byte)) this.at++;
      else return;
    }
  }

  private damaged(): Error {
    return new Error('the PPM is truncated or damaged');
  }
}
