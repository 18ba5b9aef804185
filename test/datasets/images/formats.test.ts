import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { decodeBmp } from '../../../src/datasets/images/formats/bmp.ts';
import { imageFormatOf, isImageName } from '../../../src/datasets/images/formats/image-formats.ts';
import { decodeNetpbm } from '../../../src/datasets/images/formats/netpbm.ts';

const MAX_PIXELS = 1000;
const decode = (bytes: Uint8Array) =>
  imageFormatOf(bytes) === 'BMP' ? decodeBmp(bytes, MAX_PIXELS) : decodeNetpbm(bytes, MAX_PIXELS);

interface FormatCase {
  name: string;
  file: string;
  channels: number;
  height: number;
  width: number;
  pixels: number[];
}
const cases: FormatCase[] = JSON.parse(
  await readFile(new URL('../../fixtures/images/formats.json', import.meta.url), 'utf8'),
);

describe('bitmaps and PPM', () => {
  it.each(cases)('$name has the pixels that Pillow reads', ({ file, pixels, ...shape }) => {
    const { pixels: found, ...size } = decode(Buffer.from(file, 'base64'));
    expect(size).toEqual({ channels: shape.channels, height: shape.height, width: shape.width });
    expect([...found]).toEqual(pixels);
  });

  it.each(cases)('$name ends in an error wherever it is cut, or is changed anywhere', ({ file }) => {
    const whole = Buffer.from(file, 'base64');
    // The text formats end where the last digit is.
    const isText = /^P[123]/.test(whole.toString('latin1'));
    for (let length = 2; length < whole.length - (isText ? 3 : 0); length++)
      expect(() => decode(whole.subarray(0, length)), `${length} bytes`).toThrow(/truncated|damaged|not read/);
    for (let at = 0; at < Math.min(whole.length, 140); at++)
      for (const bit of [0, 3, 7]) {
        const changed = Buffer.from(whole);
        changed[at] = (changed[at] ?? 0) ^ (1 << bit);
        try {
          const { pixels, height, width, channels } = decode(changed);
          expect(pixels.length).toBe(height * width * channels);
        } catch (error) {
          expect(String(error)).toMatch(/truncated|damaged|not read|too large|not a PNG|it is/);
        }
      }
  });

  it('of compressed bitmaps the error says so', () => {
    const rle = Buffer.from(cases.find(({ name }) => name === 'grey.bmp')?.file ?? '', 'base64');
    rle.writeUInt32LE(1, 30);
    expect(() => decode(rle)).toThrow(/compressed BMP \(RLE\) is not read: save it uncompressed, or as PNG/);
  });
});

describe('what a file is', () => {
  const ftyp = (...brands: string[]) => {
    const text = `ftyp${brands[0]}\0\0\0\0${brands.slice(1).join('')}`;
    const size = Buffer.alloc(4);
    size.writeUInt32BE(4 + text.length);
    return Buffer.concat([size, Buffer.from(text, 'latin1'), Buffer.from('meta avif heic')]);
  };

  it.each<[string, Uint8Array]>([
    ['AVIF', ftyp('avif', 'mif1')],
    ['AVIF', ftyp('mif1', 'mif1', 'avif', 'miaf')],
    ['AVIF', ftyp('avis', 'msf1')],
    ['AVIF', ftyp('mif1')],
    ['TIFF', Buffer.from('II+\0\x08\0\0\0', 'latin1')],
    ['TIFF', Buffer.from('MM\0+\0\x08\0\0', 'latin1')],
  ])('%s by another mark', (format, bytes) => {
    expect(imageFormatOf(bytes)).toBe(format);
  });

  it.each<[RegExp, Uint8Array]>([
    [/HEIC image \(HEVC\)/, ftyp('heic', 'mif1')],
    [/HEIC image \(HEVC\)/, ftyp('mif1', 'heic')],
    [/video or sound \('isom'\)/, ftyp('isom', 'mp42')],
    [/JPEG XL/, Buffer.from([0xff, 0x0a, 1])],
    [/JPEG 2000/, Buffer.from('\0\0\0\x0cjP  \r\n', 'latin1')],
    [/git-lfs pointer/, Buffer.from('version https://git-lfs.github.com/spec/v1\noid')],
    [/HTML page/, Buffer.from('\n<!DOCTYPE html>')],
    [/SVG/, Buffer.from('<svg xmlns=')],
    [/a zip file/, Buffer.from('PK\x03\x04', 'latin1')],
    [/is empty/, new Uint8Array(0)],
    [/^not a PNG, .* image$/, Buffer.from('hello')],
  ])('%s', (message, bytes) => {
    expect(() => imageFormatOf(bytes)).toThrow(message);
  });

  it('is an image by its name, in any case', () => {
    const names = 'a.png b.JPG c.jpeg d.jpe e.jfif f.bmp g.ppm h.PGM i.pbm j.tif k.avif l.webp m.gif'.split(' ');
    expect(names.filter((name) => !isImageName(name))).toEqual([]);
    expect(['a.heic', 'b.png.bak', 'c.txt', 'd.svg', 'e.', 'dir.png/noext', '._a.png'].filter(isImageName)).toEqual([]);
  });
});
