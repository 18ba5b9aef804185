import { SafetensorsError } from '../errors.ts';
import { readShardIndex } from '../hub/weight-files.ts';
import { decodeBfloat16, decodeFloat16 } from './float-formats.ts';
import type { RegularFile } from './regular-file.ts';
import { withSafetensors } from './safetensors.ts';
import type { SafetensorsDtype, TensorEntry } from './safetensors-header.ts';

/** Elements that are converted at a time. */
const PIECE = 4 * 1024 * 1024;

export interface FloatTensorInfo {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
}

/**
 * What a safetensors file holds, or the shards of an `.index.json`: the headers are read and checked, no data.
 *
 * @throws {SafetensorsError} when a file is missing or malformed, a tensor is not of floating point, or a shard lacks a
 * tensor that the index puts there.
 */
export async function floatTensorInfos(path: string): Promise<Map<string, FloatTensorInfo>> {
  const infos = new Map<string, FloatTensorInfo>();
  for (const [file, expected] of await filesOf(path)) {
    const { entries } = await withSafetensors(file, async (_, header) => header);
    for (const { name, dtype, shape } of entries) {
      if (!isFloat(dtype))
        throw new SafetensorsError(`${file}: '${name}' is ${dtype}, not of floating point.`);
      if (infos.has(name)) throw new SafetensorsError(`${path}: '${name}' lies in two of its files.`);
      infos.set(name, { dtype, shape });
    }
    const own = new Set(entries.map(({ name }) => name));
    const missing = expected?.find((name) => !own.has(name));
    if (missing !== undefined)
      throw new SafetensorsError(`${path} puts '${missing}' into ${file}, which does not have it.`);
  }
  return infos;
}

/**
 * Reads tensors as float32, one after another, straight into their destinations: of the file itself no more than a
 * piece is in memory. F16 and BF16 are converted exactly, F64 to the nearest.
 *
 * @param path a safetensors file, or the `.index.json` of a sharded model.
 * @param destinations by name, each as long as the tensor; other tensors are not read.
 * @throws {SafetensorsError} as {@link floatTensorInfos}, and when a destination has no tensor or another length.
 */
export async function readFloatTensors(
  path: string,
  destinations: ReadonlyMap<string, Float32Array>,
): Promise<void> {
  const missing = new Set(destinations.keys());
  for (const file of (await filesOf(path)).keys()) {
    await withSafetensors(file, async (opened, { entries, dataStart }) => {
      for (const entry of entries) {
        const target = destinations.get(entry.name);
        if (!target) continue;
        await readAsFloat32(opened, file, entry, dataStart, target);
        missing.delete(entry.name);
      }
    });
  }
  const [first] = missing;
  if (first !== undefined) throw new SafetensorsError(`${path} has no tensor '${first}'.`);
}

async function filesOf(path: string): Promise<Map<string, string[] | undefined>> {
  return path.endsWith('.json') ? readShardIndex(path) : new Map([[path, undefined]]);
}

async function readAsFloat32(
  file: RegularFile,
  path: string,
  { name, dtype, shape, begin, end }: TensorEntry,
  dataStart: number,
  target: Float32Array,
): Promise<void> {
  if (!isFloat(dtype)) throw new SafetensorsError(`${path}: '${name}' is ${dtype}, not of floating point.`);
  const width = WIDTHS[dtype];
  if ((end - begin) / width !== target.length)
    throw new SafetensorsError(`${path}: '${name}' is [${shape}], which are not ${target.length} values.`);
  const start = dataStart + begin;
  if (dtype === 'F32')
    return file.readInto(new Uint8Array(target.buffer, target.byteOffset, target.byteLength), start);
  const stored = new Uint8Array(Math.min(PIECE, target.length) * width);
  for (let done = 0; done < target.length; done += PIECE) {
    const piece = target.subarray(done, done + PIECE);
    await file.readInto(stored.subarray(0, piece.length * width), start + done * width);
    if (dtype === 'F64') piece.set(new Float64Array(stored.buffer, 0, piece.length));
    else
      (dtype === 'F16' ? decodeFloat16 : decodeBfloat16)(
        new Uint16Array(stored.buffer, 0, piece.length),
        piece,
      );
  }
}

const WIDTHS = { F64: 8, F32: 4, F16: 2, BF16: 2 } as const;

function isFloat(dtype: SafetensorsDtype): dtype is keyof typeof WIDTHS {
  return Object.hasOwn(WIDTHS, dtype);
}
