import { type HuffmanCode, type JpegComponent, type JpegHeader, jpegHeader } from './header.ts';
import { huffmanTable, TABLE_WORDS } from './huffman-table.ts';
import { JPEG_KERNELS } from './jpeg-kernels-binary.ts';

/*
 * The usual JPEG files to the bytes of libjpeg-turbo (its slow transform, its "fancy" colours), which are those of Pillow
 * and of sharp. sharp takes more than twice as long for a photo of 500x400 pixels: libvips has threads, copies and pages of
 * its own for each image.
 */

/** The exports of jpeg-kernels.wat; addresses in bytes. */
interface Kernels {
  readonly memory: WebAssembly.Memory;
  decodeUnits(scan: number, first: number, end: number, data: number, dataEnd: number): number;
  upsample(near: number, far: number, count: number, even: number, odd: number, sums: number, target: number): void;
  toRgb(luma: number, blue: number, red: number, count: number, target: number): void;
}

/** Larger images are left to sharp: these are decoded at one go, in the thread that asks. */
const MAX_PIXELS = 2 ** 24;
const PAGE_BYTES = 2 ** 16;
/** A memory never shrinks. One that a large image needed is given up. */
const MAX_KEPT_BYTES = 2 ** 26;
/** What jpeg-kernels.wat uses itself. */
const KERNEL_BYTES = 1024;
/** A unit of the scan has at most 6 blocks of 64 codes and values, of at most 27 bits each. */
const DATA_SLACK_BYTES = 2048;
/** Beyond what they are given, the kernels read and write at most 32 bytes. */
const SLACK_BYTES = 32;

/** Those that a file has at most: two for grey or luma, two for colours. */
const MAX_TABLES = 4;

const RST0 = 0xd0;
const EOI = 0xd9;

const ZIGZAG = Uint8Array.from([
  ...[0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21],
  ...[28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61],
  ...[54, 47, 55, 62, 63],
]);

/**
 * The pixels of a JPEG file, [height, width, channels]: 1 channel for grey, else RGB. Undefined for what is left to sharp:
 * progressive files, other colours, colour profiles, images that are turned, large ones, and all that seems damaged. The
 * next call writes over the pixels: this one allocates nothing, which would take a tenth of the time.
 */
export function decodeJpeg(
  bytes: Uint8Array,
): { pixels: Uint8Array; height: number; width: number; channels: 1 | 3 } | undefined {
  const header = jpegHeader(bytes);
  if (!header || header.height * header.width > MAX_PIXELS) return undefined;
  const layout = layoutOf(header, bytes.length);
  const kernels = kernelsWith(layout.bytes);
  writeTables(kernels, header, layout);
  if (!decodeScan(kernels, header, layout, bytes)) return undefined;
  const { height, width } = header;
  const [luma, blue, red] = layout.planes;
  if (!luma) return undefined;
  const channels = blue && red ? 3 : 1;
  if (blue && red) writeRgb(kernels, header, layout, [luma, blue, red]);
  else writeGrey(kernels, header, layout, luma);
  const pixels = new Uint8Array(kernels.memory.buffer, layout.pixels, height * width * channels);
  return { pixels, height, width, channels };
}

/** The samples of a component, in whole units of the scan. */
interface Plane {
  readonly address: number;
  readonly stride: number;
  /** Samples that belong to the image. */
  readonly height: number;
  readonly width: number;
}

/** Where everything is in the memory of the kernels. */
interface Layout {
  /** Units of the scan. */
  readonly columns: number;
  readonly rows: number;
  readonly tables: ReadonlyMap<HuffmanCode, number>;
  /** The divisors of each component. */
  readonly divisors: readonly number[];
  readonly scan: number;
  /** The last difference of each component, added up. */
  readonly sums: number;
  readonly data: number;
  readonly planes: readonly Plane[];
  /** A row of colours of half the columns: as 16-bit values, then blue and red in full. */
  readonly halfRow: number;
  readonly blueRow: number;
  readonly redRow: number;
  readonly pixels: number;
  /** The end of it all. */
  readonly bytes: number;
}

function layoutOf({ height, width, components }: JpegHeader, fileBytes: number): Layout {
  let bytes = KERNEL_BYTES;
  const reserve = (length: number) => {
    const address = bytes;
    bytes += Math.ceil((length + SLACK_BYTES) / 16) * 16;
    return address;
  };
  const [{ across: most, down: highest }] = components as readonly [JpegComponent];
  const [columns, rows] = [Math.ceil(width / (8 * most)), Math.ceil(height / (8 * highest))];
  const codes = new Set(components.flatMap(({ dc, ac }) => [dc, ac]));
  const rowBytes = 8 * most * columns;
  const layout = {
    columns,
    rows,
    tables: new Map([...codes].map((code) => [code, reserve(4 * TABLE_WORDS)])),
    divisors: components.map(() => reserve(128)),
    scan: reserve(32 + 6 * 32),
    sums: reserve(12),
    data: reserve(fileBytes + DATA_SLACK_BYTES),
    planes: components.map(({ across, down }) => {
      const stride = 8 * across * columns;
      return {
        address: reserve(stride * 8 * down * rows),
        stride,
        height: Math.ceil((height * down) / highest),
        width: Math.ceil((width * across) / most),
      };
    }),
    halfRow: reserve(rowBytes),
    blueRow: reserve(rowBytes),
    redRow: reserve(rowBytes),
    pixels: reserve(height * width * (components.length === 1 ? 1 : 3)),
  };
  return { ...layout, bytes };
}

/** What `decodeUnits` reads: the tables, and for each block of a unit where they are and where its samples go. */
function writeTables({ memory }: Kernels, { components }: JpegHeader, layout: Layout): void {
  const [words, halves] = [new Int32Array(memory.buffer), new Int16Array(memory.buffer)];
  const table = (code: HuffmanCode, isDc: boolean) => {
    const address = layout.tables.get(code) ?? 0;
    words.set(tableOf(code, isDc), address / 4);
    return address;
  };
  const blocks = components.flatMap(({ across, down, quantization, dc, ac }, i) => {
    const { address, stride } = layout.planes[i] as Plane;
    const divisors = layout.divisors[i] as number;
    for (const [k, place] of ZIGZAG.entries()) halves[divisors / 2 + place] = quantization[k] as number;
    const shared = [table(dc, true), table(ac, false), divisors, layout.sums + 4 * i];
    return Array.from({ length: across * down }, (_, block) => {
      const place = address + 8 * (Math.floor(block / across) * stride + (block % across));
      return [...shared, place, stride, 8 * across, 8 * down * stride];
    });
  });
  words.set([32 * blocks.length, layout.columns], layout.scan / 4);
  words.set(blocks.flat(), layout.scan / 4 + 8);
}

let lastTables: { readonly code: HuffmanCode; readonly isDc: boolean; readonly table: Int32Array }[] = [];

/** The table of a code. Most files have the codes of the one before. */
function tableOf(code: HuffmanCode, isDc: boolean): Int32Array {
  const same = lastTables.find((last) => last.isDc === isDc && isEqual(last.code, code));
  if (same) return same.table;
  // The code is a part of the file, whose memory the caller may use anew. The `slice` of a Buffer would not copy it.
  const copy = { counts: Uint8Array.from(code.counts), symbols: Uint8Array.from(code.symbols) };
  const made = { code: copy, isDc, table: huffmanTable(code, isDc) };
  lastTables = [made, ...lastTables.slice(0, MAX_TABLES - 1)];
  return made.table;
}

const isEqual = (a: HuffmanCode, b: HuffmanCode) =>
  a.symbols.length === b.symbols.length &&
  a.counts.every((count, i) => count === b.counts[i]) &&
  a.symbols.every((symbol, i) => symbol === b.symbols[i]);

/** Whether the scan has all units of the image, and nothing else. */
function decodeScan(kernels: Kernels, header: JpegHeader, layout: Layout, bytes: Uint8Array): boolean {
  const { scan, sums, data, columns, rows } = layout;
  const memory = new Uint8Array(kernels.memory.buffer);
  const units = columns * rows;
  const interval = header.restartInterval || units;
  let at = header.dataAt;
  for (let first = 0, part = 0; first < units; first += interval, part++) {
    const copied = copyData(bytes, at, memory, data);
    if (!copied) return false;
    const end = Math.min(units, first + interval);
    memory.fill(0, sums, sums + 12);
    if (kernels.decodeUnits(scan, first, end, data, copied.end) !== copied.end) return false;
    if (bytes[copied.at + 1] !== (end === units ? EOI : RST0 + (part & 7))) return false;
    at = copied.at + 2;
  }
  return true;
}

/** The bytes up to a marker, without the zeros that tell them from one, and where both end. */
function copyData(
  bytes: Uint8Array,
  begin: number,
  memory: Uint8Array,
  target: number,
): { at: number; end: number } | undefined {
  let end = target;
  for (let at = begin; ; ) {
    const marker = bytes.indexOf(0xff, at);
    if (marker < 0) return undefined;
    const isByte = bytes[marker + 1] === 0;
    const part = bytes.subarray(at, isByte ? marker + 1 : marker);
    memory.set(part, end);
    end += part.length;
    if (!isByte) {
      memory.fill(0, end, end + SLACK_BYTES);
      return { at: marker, end };
    }
    at = marker + 2;
  }
}

/** The rows of a plane, one after another. */
function writeGrey({ memory }: Kernels, { height, width }: JpegHeader, { pixels }: Layout, luma: Plane): void {
  const bytes = new Uint8Array(memory.buffer);
  for (let y = 0; y < height; y++) {
    const row = luma.address + y * luma.stride;
    bytes.copyWithin(pixels + y * width, row, row + width);
  }
}

function writeRgb(
  { upsample, toRgb }: Kernels,
  { height, width }: JpegHeader,
  { halfRow, blueRow, redRow, pixels }: Layout,
  [luma, blue, red]: readonly [Plane, Plane, Plane],
): void {
  const [halvesColumns, halvesRows] = [blue.width < width, blue.height < height];
  // Halves are rounded down and up in turns; jdsample.c begins with another one where rows are halved too.
  const [even, odd] = halvesRows ? [8, 7] : [4, 8];
  for (let y = 0; y < height; y++) {
    const row = halvesRows ? y >> 1 : y;
    let [blueAt, redAt] = [blue.address + row * blue.stride, red.address + row * red.stride];
    if (halvesColumns) {
      const next = y % 2 === 0 ? Math.max(0, row - 1) : Math.min(blue.height - 1, row + 1);
      const step = halvesRows ? (next - row) * blue.stride : 0;
      upsample(blueAt, blueAt + step, blue.width, even, odd, halfRow, blueRow);
      upsample(redAt, redAt + step, red.width, even, odd, halfRow, redRow);
      [blueAt, redAt] = [blueRow, redRow];
    }
    toRgb(luma.address + y * luma.stride, blueAt, redAt, width, pixels + 3 * width * y);
  }
}

let module: WebAssembly.Module | undefined;
let kept: Kernels | undefined;

/** Kernels whose memory has at least `bytes` bytes. */
function kernelsWith(bytes: number): Kernels {
  module ??= new WebAssembly.Module(Uint8Array.from(atob(JPEG_KERNELS), (byte) => byte.charCodeAt(0)));
  const kernels = kept ?? (new WebAssembly.Instance(module).exports as unknown as Kernels);
  const missing = bytes - kernels.memory.buffer.byteLength;
  if (missing > 0) kernels.memory.grow(Math.ceil(missing / PAGE_BYTES));
  kept = bytes <= MAX_KEPT_BYTES ? kernels : undefined;
  return kernels;
}
