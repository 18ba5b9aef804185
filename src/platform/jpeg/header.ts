/*
 * The header of the JPEG files that kernels.wat decodes (ITU-T T.81): baseline, 8 bits, one scan; grey, or YCbCr whose
 * colours have all of the pixels, half of the columns, or half of the columns and rows.
 */

/** A Huffman code: how many codes there are of 1 to 16 bits, and their symbols in order. */
export interface HuffmanCode {
  readonly counts: Uint8Array;
  readonly symbols: Uint8Array;
}

export interface JpegComponent {
  readonly id: number;
  /** Blocks of 8x8 pixels in a unit of the scan. */
  readonly across: number;
  readonly down: number;
  /** 64 divisors in zigzag order. */
  readonly quantization: Uint8Array;
  readonly dc: HuffmanCode;
  readonly ac: HuffmanCode;
}

export interface JpegHeader {
  readonly height: number;
  readonly width: number;
  /** One, or luma, blue and red. */
  readonly components: readonly JpegComponent[];
  /** Units between two restart markers; 0: there are none. */
  readonly restartInterval: number;
  /** Where the scan begins. */
  readonly dataAt: number;
}

const DHT = 0xc4;
const SOI = 0xd8;
const SOS = 0xda;
const DQT = 0xdb;
const DRI = 0xdd;
const APP0 = 0xe0;
const APP1 = 0xe1;
const APP2 = 0xe2;
const APP14 = 0xee;
/** Baseline and extended frames differ only in what the tables may hold. */
const SOF0 = 0xc0;
const SOF1 = 0xc1;

interface Frame {
  readonly height: number;
  readonly width: number;
  readonly components: readonly Pick<JpegComponent, 'id' | 'across' | 'down'>[];
  /** The number of the table of each component. */
  readonly quantization: readonly number[];
}

/** Undefined for files of another kind, and for those that are damaged or could be. */
export function jpegHeader(bytes: Uint8Array): JpegHeader | undefined {
  if (bytes[0] !== 0xff || bytes[1] !== SOI) return undefined;
  const word = (at: number) => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  const quantizations = new Map<number, Uint8Array>();
  const codes = new Map<number, HuffmanCode>();
  let restartInterval = 0;
  let isYcc = false;
  let frame: Frame | undefined;
  for (let at = 2; bytes[at] === 0xff; ) {
    const marker = bytes[at + 1];
    const end = at + 2 + word(at + 2);
    const segment = bytes.subarray(at + 4, end);
    if (end < at + 4 || end > bytes.length) return undefined;
    if (marker === DQT) {
      if (!readQuantizations(segment, quantizations)) return undefined;
    } else if (marker === DHT) {
      if (!readCodes(segment, codes)) return undefined;
    } else if (marker === DRI) restartInterval = word(at + 4);
    else if (marker === SOF0 || marker === SOF1) {
      if (frame) return undefined;
      frame = readFrame(segment);
      if (!frame) return undefined;
    } else if (marker === SOS) {
      if (!frame || !(isYcc || hasUsualIds(frame))) return undefined;
      const components = componentsOf(frame, segment, quantizations, codes);
      return components && { height: frame.height, width: frame.width, components, restartInterval, dataAt: end };
    } else if (marker === APP0) isYcc ||= begins(segment, 'JFIF\0');
    else if (marker === APP14 && begins(segment, 'Adobe')) {
      if (segment[11] !== 1) return undefined;
      isYcc = true;
    } else if (marker === APP1) {
      if (begins(segment, 'Exif\0\0') && !isUpright(segment.subarray(6))) return undefined;
    } else if (marker === APP2 || marker === undefined || !isIgnored(marker)) return undefined;
    at = end;
  }
  return undefined;
}

/** Application data and comments; a colour profile is in APP2. */
const isIgnored = (marker: number) => (marker > APP2 && marker < 0xf0) || marker === 0xfe;

const begins = (segment: Uint8Array, text: string) =>
  [...text].every((character, i) => segment[i] === character.charCodeAt(0));

/** Whether the orientation of an EXIF block is 1, or not given. */
function isUpright(tiff: Uint8Array): boolean {
  const isLittle = begins(tiff, 'II*\0');
  if ((!isLittle && !begins(tiff, 'MM\0*')) || tiff.length < 14) return false;
  const view = new DataView(tiff.buffer, tiff.byteOffset, tiff.length);
  const directory = view.getUint32(4, isLittle);
  if (directory > tiff.length - 2) return false;
  const count = view.getUint16(directory, isLittle);
  if (directory + 2 + 12 * count > tiff.length) return false;
  for (let i = 0; i < count; i++) {
    const entry = directory + 2 + 12 * i;
    if (view.getUint16(entry, isLittle) === 0x0112) return view.getUint16(entry + 8, isLittle) === 1;
  }
  return true;
}

function readQuantizations(segment: Uint8Array, into: Map<number, Uint8Array>): boolean {
  for (let at = 0; at < segment.length; at += 65) {
    const number = segment[at] ?? 0;
    // Higher numbers have 16 bits for a divisor.
    if (number > 3 || at + 65 > segment.length) return false;
    into.set(number, segment.subarray(at + 1, at + 65));
  }
  return true;
}

function readCodes(segment: Uint8Array, into: Map<number, HuffmanCode>): boolean {
  for (let at = 0; at < segment.length; ) {
    const number = segment[at] ?? 0;
    const counts = segment.subarray(at + 1, at + 17);
    const end = at + 17 + counts.reduce((sum, count) => sum + count, 0);
    const symbols = segment.subarray(at + 17, end);
    const isDc = number < 16;
    if ((number & 0xef) > 3 || end > segment.length || !isPrefixCode(counts)) return false;
    // The sizes of differences and coefficients of 8 bits.
    if (symbols.some((symbol) => (isDc ? symbol > 11 : (symbol & 15) > 10))) return false;
    into.set(number, { counts, symbols });
    at = end;
  }
  return true;
}

function isPrefixCode(counts: Uint8Array): boolean {
  let free = 1;
  return counts.every((count) => {
    free = 2 * free - count;
    return free >= 0;
  });
}

function readFrame(segment: Uint8Array): Frame | undefined {
  const [precision, heightHigh = 0, heightLow = 0, widthHigh = 0, widthLow = 0, count = 0] = segment;
  const [height, width] = [(heightHigh << 8) | heightLow, (widthHigh << 8) | widthLow];
  if (precision !== 8 || height === 0 || width === 0 || segment.length !== 6 + 3 * count) return undefined;
  const parts = Array.from({ length: count }, (_, i) => segment.subarray(6 + 3 * i, 9 + 3 * i));
  const quantization = parts.map(([, , table = 0]) => table);
  // The blocks of a single component follow one another, whatever its factors are.
  const components = parts.map(([id = 0, factors = 0]) => ({
    id,
    across: count === 1 ? 1 : factors >> 4,
    down: count === 1 ? 1 : factors & 15,
  }));
  const factors = components.map(({ across, down }) => `${across}x${down}`).join(' ');
  if (!['1x1', '1x1 1x1 1x1', '2x1 1x1 1x1', '2x2 1x1 1x1'].includes(factors)) return undefined;
  // libjpeg does not smooth the colours of such an image.
  if (components[0]?.across === 2 && width < 5) return undefined;
  return { height, width, components, quantization };
}

/** Without a marker that says so, libjpeg takes components of other numbers for other colours. */
const hasUsualIds = ({ components }: Frame) => components.length === 1 || components.every(({ id }, i) => id === i + 1);

/** The components of the frame with their tables, if the scan has all of them, whole and in order. */
function componentsOf(
  { components, quantization }: Frame,
  scan: Uint8Array,
  quantizations: ReadonlyMap<number, Uint8Array>,
  codes: ReadonlyMap<number, HuffmanCode>,
): JpegComponent[] | undefined {
  const count = components.length;
  const [first, last, approximation] = scan.subarray(1 + 2 * count);
  if (scan.length !== 4 + 2 * count || scan[0] !== count || first !== 0 || last !== 63 || approximation !== 0)
    return undefined;
  const found: JpegComponent[] = [];
  for (const [i, component] of components.entries()) {
    const [id, tables = 0] = scan.subarray(1 + 2 * i);
    const divisors = quantizations.get(quantization[i] ?? 0);
    const [dc, ac] = [codes.get(tables >> 4), codes.get(16 + (tables & 15))];
    if (id !== component.id || !divisors || !dc || !ac) return undefined;
    found.push({ ...component, quantization: divisors, dc, ac });
  }
  return found;
}
