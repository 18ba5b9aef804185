import type { PixelImage } from '../image-set.ts';

/*
 * Windows bitmaps, which libvips reads only with ImageMagick; the decoders on npm take the pixels' place for granted, or
 * leave out palettes. (https://learn.microsoft.com/windows/win32/gdi/bitmap-storage)
 */

const FILE_HEADER = 14;
const CORE_HEADER = 12;
const INFO_HEADER = 40;
const BIT_FIELDS = [3, 6];

/** Where one colour is in a pixel of 16 or 32 bits. */
interface Field {
  readonly mask: number;
  readonly shift: number;
  readonly max: number;
}

/**
 * The pixels of a bitmap of 1, 4, 8, 16, 24 or 32 bits: grey where all colours of its palette are, RGBA where it says
 * where its transparency is, else RGB.
 *
 * @throws an error for compressed bitmaps, and for damaged ones.
 */
export function decodeBmp(bytes: Uint8Array, maxPixels: number): PixelImage {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerBytes = bytes.length < FILE_HEADER + CORE_HEADER ? 0 : view.getUint32(14, true);
  const isCore = headerBytes === CORE_HEADER;
  if (!isCore && (headerBytes < INFO_HEADER || bytes.length < FILE_HEADER + INFO_HEADER))
    throw new Error('the BMP header is damaged');
  const width = isCore ? view.getUint16(18, true) : view.getInt32(18, true);
  const signedHeight = isCore ? view.getUint16(20, true) : view.getInt32(22, true);
  const bits = view.getUint16(isCore ? 24 : 28, true);
  const compression = isCore ? 0 : view.getUint32(30, true);
  const height = Math.abs(signedHeight);
  if (width < 1 || height < 1 || ![1, 4, 8, 16, 24, 32].includes(bits))
    throw new Error(`a BMP of ${width}x${height} pixels of ${bits} bits is not read`);
  if (width * height > maxPixels) throw new Error(`a BMP of ${width}x${height} pixels is too large`);
  if (compression !== 0 && !BIT_FIELDS.includes(compression))
    throw new Error('a compressed BMP (RLE) is not read: save it uncompressed, or as PNG');

  const begin = view.getUint32(10, true);
  const rowBytes = Math.ceil((width * bits) / 32) * 4;
  if (begin + rowBytes * height > bytes.length) throw new Error('the BMP is truncated');
  const rows = Array.from({ length: height }, (_, y) => begin + rowBytes * (signedHeight < 0 ? y : height - 1 - y));
  const size = { height, width };
  if (bits <= 8) {
    const palette = paletteOf(bytes, view, { bits, headerBytes, begin, isCore });
    return paletteImage(bytes, rows, palette, bits, size);
  }
  if (bits === 24) {
    const pixels = new Uint8Array(width * height * 3);
    let at = 0;
    for (const row of rows)
      for (let from = row; from < row + 3 * width; from += 3)
        for (let c = 2; c >= 0; c--) pixels[at++] = bytes[from + c] as number;
    return { pixels, ...size, channels: 3 };
  }
  return fieldImage(view, rows, fieldsOf(view, { bits, headerBytes, hasMasks: compression !== 0 }), bits / 8, size);
}

/** 256 colours as RGB; black where the file has fewer. */
function paletteOf(
  bytes: Uint8Array,
  view: DataView,
  { bits, headerBytes, begin, isCore }: { bits: number; headerBytes: number; begin: number; isCore: boolean },
): Uint8Array {
  const used = isCore ? 0 : view.getUint32(46, true);
  const entry = isCore ? 3 : 4;
  const start = FILE_HEADER + headerBytes;
  const count = Math.min(used || 2 ** bits, 2 ** bits, Math.floor((begin - start) / entry));
  const palette = new Uint8Array(256 * 3);
  for (let i = 0; i < count; i++)
    for (let c = 0; c < 3; c++) palette[3 * i + c] = bytes[start + entry * i + 2 - c] as number;
  return palette;
}

function paletteImage(
  bytes: Uint8Array,
  rows: readonly number[],
  palette: Uint8Array,
  bits: number,
  { height, width }: { height: number; width: number },
): PixelImage {
  const isGrey = palette.every((value, i) => value === palette[i - (i % 3)]);
  const channels = isGrey ? 1 : 3;
  const pixels = new Uint8Array(width * height * channels);
  const perByte = 8 / bits;
  let at = 0;
  for (const row of rows)
    for (let x = 0; x < width; x++) {
      const byte = bytes[row + Math.floor(x / perByte)] as number;
      const index = (byte >> (8 - bits * ((x % perByte) + 1))) & (2 ** bits - 1);
      for (let c = 0; c < channels; c++) pixels[at++] = palette[3 * index + c] as number;
    }
  return { pixels, height, width, channels };
}

function fieldsOf(
  view: DataView,
  { bits, headerBytes, hasMasks }: { bits: number; headerBytes: number; hasMasks: boolean },
): Field[] {
  const masks = bits === 16 ? [0x7c00, 0x3e0, 0x1f] : [0xff0000, 0xff00, 0xff];
  if (hasMasks) {
    const count = headerBytes >= 56 ? 4 : 3;
    const start = FILE_HEADER + INFO_HEADER;
    if (start + 4 * count > view.byteLength) throw new Error('the BMP is truncated');
    for (let i = 0; i < count; i++) masks[i] = view.getUint32(start + 4 * i, true);
  }
  return masks
    .filter((mask, i) => i < 3 || mask !== 0)
    .map((mask) => {
      const shift = mask === 0 ? 0 : 31 - Math.clz32(mask & -mask);
      return { mask, shift, max: mask >>> shift || 1 };
    });
}

function fieldImage(
  view: DataView,
  rows: readonly number[],
  fields: readonly Field[],
  pixelBytes: number,
  { height, width }: { height: number; width: number },
): PixelImage {
  const channels = fields.length === 4 ? 4 : 3;
  const pixels = new Uint8Array(width * height * channels);
  let at = 0;
  for (const row of rows)
    for (let x = 0; x < width; x++) {
      const from = row + x * pixelBytes;
      const value = pixelBytes === 2 ? view.getUint16(from, true) : view.getUint32(from, true);
      for (const { mask, shift, max } of fields) pixels[at++] = (((value & mask) >>> shift) * 255) / max;
    }
  return { pixels, height, width, channels };
}
