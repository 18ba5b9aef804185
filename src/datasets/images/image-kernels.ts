import { bytesOfLatin1 } from '../../files/bytes.ts';
import { IMAGE_KERNELS } from './image-kernels-binary.ts';

/** The exports of image-kernels.wat; addresses in bytes. */
interface Kernels {
  readonly memory: WebAssembly.Memory;
  alongRows(
    source: number,
    lineBytes: number,
    lines: number,
    channels: number,
    table: number,
    pairs: number,
    kept: number,
    target: number,
  ): void;
  acrossRows(source: number, rowBytes: number, entry: number, pairs: number, target: number): void;
  toFloats(source: number, rowBytes: number, rows: number, step: number, width: number, target: number): void;
}

/** Along one axis: which source pixels make each target pixel, and with which weights. */
export interface Taps<Weights> {
  readonly first: Int32Array;
  readonly count: Int32Array;
  /** `stride` weights for each target pixel. */
  readonly weights: Weights;
  readonly stride: number;
}

/** What the kernels read of their own. */
const DATA_BYTES = 80;
/** The passes of the resize read at most 8 bytes beyond what they are given; no kernel writes more than 12. */
const SLACK_BYTES = 16;
/** Rows that are in the memory at a time: what fits into a cache of the processor. */
const STRIP_BYTES = 2 ** 19;
/** Vectors that lie at a multiple of their size are written faster. */
const VECTOR_BYTES = 16;
const PAGE_BYTES = 2 ** 16;
/** A memory never shrinks. One that a huge image needed is given up. */
const MAX_KEPT_BYTES = 2 ** 26;

let module: WebAssembly.Module | undefined;
let kept: Kernels | undefined;

/**
 * Resizes along both axes, first along the rows, with bytes between the two passes.
 *
 * @param pixels rows of `width` pixels of `channels` bytes.
 * @param down taps by rows of `pixels`; both have weights in fixed point, with 22 fractional bits.
 */
export function resampleBytes(
  pixels: Uint8Array,
  { width, channels }: { readonly width: number; readonly channels: number },
  across: Taps<Int32Array>,
  down: Taps<Int32Array>,
): Uint8Array {
  const lineBytes = width * channels;
  const lines = pixels.length / lineBytes;
  const rowBytes = across.first.length * channels;
  const rows = down.first.length;
  const [acrossTable, downTable] = [tableOf(across, channels), tableOf(down, rowBytes)];
  const stripLines = Math.min(lines, Math.max(1, Math.floor(STRIP_BYTES / lineBytes)));

  const acrossAt = DATA_BYTES;
  const downAt = acrossAt + acrossTable.bytes.length;
  const stripAt = downAt + downTable.bytes.length;
  const narrowAt = stripAt + stripLines * lineBytes + acrossTable.overshoot + SLACK_BYTES;
  const targetAt = narrowAt + lines * rowBytes + downTable.overshoot + SLACK_BYTES;
  const kernels = kernelsWith(targetAt + rowBytes + SLACK_BYTES);
  const memory = new Uint8Array(kernels.memory.buffer);
  memory.set(acrossTable.bytes, acrossAt);
  memory.set(downTable.bytes, downAt);
  for (let line = 0; line < lines; line += stripLines) {
    const strip = pixels.subarray(line * lineBytes, (line + stripLines) * lineBytes);
    memory.set(strip, stripAt);
    kernels.alongRows(
      stripAt,
      lineBytes,
      strip.length / lineBytes,
      channels,
      acrossAt,
      acrossTable.pairs,
      across.first.length,
      narrowAt + line * rowBytes,
    );
  }
  const out = new Uint8Array(rows * rowBytes);
  for (let row = 0; row < rows; row++) {
    kernels.acrossRows(narrowAt, rowBytes, downAt + row * downTable.entryBytes, downTable.pairs, targetAt);
    out.set(memory.subarray(targetAt, targetAt + rowBytes), row * rowBytes);
  }
  return out;
}

interface Table {
  readonly bytes: Uint8Array;
  readonly entryBytes: number;
  readonly pairs: number;
  /** Bytes that unused taps read at most after the last pixel. */
  readonly overshoot: number;
}

/** The table of image-kernels.wat. @param step bytes from one tap to the next. */
function tableOf({ first, count, weights, stride }: Taps<Int32Array>, step: number): Table {
  const pairs = Math.ceil(count.reduce((most, taps) => Math.max(most, taps), 1) / 2);
  const entryBytes = 8 + 8 * pairs;
  const halves = new Int16Array((first.length * entryBytes) / 2);
  const places = new Int32Array(halves.buffer);
  for (let i = 0; i < first.length; i++) {
    places[(i * entryBytes) / 4] = (first[i] as number) * step;
    for (let tap = 0; tap < (count[i] as number); tap++) {
      const weight = weights[i * stride + tap] as number;
      const at = (i * entryBytes) / 2 + 4 + (tap >> 1) * 4 + (tap & 1);
      halves[at] = weight >> 11;
      halves[at + 2] = weight & 0x7ff;
    }
  }
  return { bytes: new Uint8Array(halves.buffer), entryBytes, pairs, overshoot: 2 * pairs * step };
}

/** Columns of an image. */
interface Columns {
  readonly left: number;
  readonly width: number;
  /** Whether they are exchanged, left and right. */
  readonly flip: boolean;
}

/**
 * Writes rows of an image as values in [-1, 1], a plane for each channel.
 *
 * @param target receives channels x rows x columns.
 * @param pixels rows of `width` pixels of `channels` bytes, at least one.
 */
export function fillPlanes(
  target: Float32Array,
  pixels: Uint8Array,
  { width, channels }: { readonly width: number; readonly channels: number },
  columns: Columns,
): void {
  const lineBytes = width * channels;
  const lines = pixels.length / lineBytes;
  const stripLines = Math.min(lines, Math.max(1, Math.floor(STRIP_BYTES / (lineBytes + 4 * channels * columns.width))));
  const plane = stripLines * columns.width;

  // The kernel reads 3 pixels beyond a row, on its right or, from right to left, on its left.
  const margin = 3 * channels;
  const stripAt = DATA_BYTES + margin;
  const planesAt = Math.ceil((stripAt + stripLines * lineBytes + margin) / VECTOR_BYTES) * VECTOR_BYTES;
  const kernels = kernelsWith(planesAt + 4 * channels * plane + SLACK_BYTES);
  const memory = new Uint8Array(kernels.memory.buffer);
  const planes = new Float32Array(kernels.memory.buffer, planesAt, channels * plane);
  const first = stripAt + (columns.flip ? columns.left + columns.width - 1 : columns.left) * channels;
  const step = columns.flip ? -channels : channels;
  for (let line = 0; line < lines; line += stripLines) {
    const strip = pixels.subarray(line * lineBytes, (line + stripLines) * lineBytes);
    const rows = strip.length / lineBytes;
    memory.set(strip, stripAt);
    for (let channel = 0; channel < channels; channel++) {
      kernels.toFloats(first + channel, lineBytes, rows, step, columns.width, planesAt + 4 * channel * plane);
      const values = planes.subarray(channel * plane, channel * plane + rows * columns.width);
      target.set(values, (channel * lines + line) * columns.width);
    }
  }
}

/** Kernels whose memory has at least `bytes` bytes. */
function kernelsWith(bytes: number): Kernels {
  module ??= new WebAssembly.Module(bytesOfLatin1(atob(IMAGE_KERNELS)));
  const kernels = kept ?? (new WebAssembly.Instance(module).exports as unknown as Kernels);
  const missing = bytes - kernels.memory.buffer.byteLength;
  if (missing > 0) kernels.memory.grow(Math.ceil(missing / PAGE_BYTES));
  kept = bytes <= MAX_KEPT_BYTES ? kernels : undefined;
  return kernels;
}
