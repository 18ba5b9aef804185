import { dirname, join } from '#platform/path';
import { InvalidArgumentError, SafetensorsError } from '../errors.ts';
import * as z from '../zod.ts';
import { decodeBfloat16, decodeFloat16, encodeBfloat16, encodeFloat16 } from './float-formats.ts';
import { readJsonFile } from './json.ts';
import type { RegularFile } from './regular-file.ts';
import {
  type NamedTensor,
  readSafetensorsHeader,
  type SafetensorsDtype,
  type TensorEntry,
  withSafetensors,
} from './safetensors.ts';

/*
 * The weights of a model in safetensors files: read as float32 from one file or from shards, whatever float type they
 * are stored in, and made into tensors of the type they are to be saved in.
 */

/** Elements that are converted at a time. */
const PIECE = 4 * 1024 * 1024;

/** What a tensor is, and where its bytes lie: row-major and little endian. */
export interface FloatTensorInfo extends Pick<TensorEntry, 'dtype' | 'shape'> {
  /** The path of its file. */
  readonly file: string;
  /** Where it begins in the file, in bytes. */
  readonly offset: number;
  /** Its length in bytes. */
  readonly length: number;
}

/**
 * What a safetensors file holds, or the shards of an `.index.json`. Only the headers are read, and checked.
 *
 * @throws {SafetensorsError} when a file is missing or malformed, a tensor is not of floating point, or a shard lacks a
 * tensor that the index puts there.
 */
export async function floatTensorInfos(path: string): Promise<Map<string, FloatTensorInfo>> {
  const infos = new Map<string, FloatTensorInfo>();
  for (const [file, expected] of await filesOf(path)) {
    const { entries, dataStart } = await readSafetensorsHeader(file);
    for (const { name, dtype, shape, begin, end } of entries) {
      if (!isFloat(dtype)) throw new SafetensorsError(`${file}: '${name}' is ${dtype}, not of floating point.`);
      if (infos.has(name)) throw new SafetensorsError(`${path}: '${name}' lies in two of its files.`);
      infos.set(name, { dtype, shape, file, offset: dataStart + begin, length: end - begin });
    }
    const own = new Set(entries.map(({ name }) => name));
    const missing = expected?.find((name) => !own.has(name));
    if (missing !== undefined)
      throw new SafetensorsError(`${path} puts '${missing}' into ${file}, which does not have it.`);
  }
  return infos;
}

/**
 * Reads tensors as float32, one after another, straight into their destinations. At most one piece of the file is in
 * memory. F16 and BF16 are converted exactly, F64 to the nearest float32.
 *
 * @param path a safetensors file, or the `.index.json` of a sharded model.
 * @param destinations by name, each as long as the tensor; other tensors are not read.
 * @throws {SafetensorsError} as {@link floatTensorInfos}, and when a destination has no tensor or another length.
 */
export async function readFloatTensors(path: string, destinations: ReadonlyMap<string, Float32Array>): Promise<void> {
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

const SHARD = /^[\w-]+(\.[\w-]+)*\.safetensors$/;
const MAX_SHARDS = 10_000;
const indexSchema = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

/**
 * The files behind a path, and the tensors that each must hold where the path is an index.
 *
 * @throws {ConfigError} when the index is malformed.
 * @throws {SafetensorsError} when it names a file outside its folder, or no or too many shards.
 */
async function filesOf(path: string): Promise<Map<string, string[] | undefined>> {
  if (!path.endsWith('.json')) return new Map([[path, undefined]]);
  const { weight_map } = await readJsonFile(path, indexSchema, { maxBytes: 64 * 1024 * 1024 });
  const shards = new Map<string, string[]>();
  for (const [tensor, file] of Object.entries(weight_map)) {
    if (!SHARD.test(file))
      throw new SafetensorsError(
        `${path} puts '${tensor}' into ${JSON.stringify(file)}, which is not the name of a .safetensors file beside it.`,
      );
    const full = join(dirname(path), file);
    const tensors = shards.get(full);
    if (tensors) tensors.push(tensor);
    else shards.set(full, [tensor]);
  }
  if (shards.size === 0 || shards.size > MAX_SHARDS)
    throw new SafetensorsError(`${path} lists ${shards.size} files; a sharded model has 1 to ${MAX_SHARDS}.`);
  return shards;
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
    throw new SafetensorsError(`${path}: '${name}' is [${shape}], which does not hold ${target.length} values.`);
  const start = dataStart + begin;
  if (dtype === 'F32') return file.readInto(new Uint8Array(target.buffer, target.byteOffset, target.byteLength), start);
  const stored = new Uint8Array(Math.min(PIECE, target.length) * width);
  for (let done = 0; done < target.length; done += PIECE) {
    const piece = target.subarray(done, done + PIECE);
    await file.readInto(stored.subarray(0, piece.length * width), start + done * width);
    if (dtype === 'F64') piece.set(new Float64Array(stored.buffer, 0, piece.length));
    else (dtype === 'F16' ? decodeFloat16 : decodeBfloat16)(new Uint16Array(stored.buffer, 0, piece.length), piece);
  }
}

const WIDTHS = { F64: 8, F32: 4, F16: 2, BF16: 2 } as const;

function isFloat(dtype: SafetensorsDtype): dtype is keyof typeof WIDTHS {
  return Object.hasOwn(WIDTHS, dtype);
}

/** transformers.js's names of the types that weights are saved in. */
const WEIGHTS_DTYPES = ['fp32', 'fp16', 'bf16'] as const;
export type WeightsDtype = (typeof WEIGHTS_DTYPES)[number];

/**
 * float32 values as a tensor of `dtype`: as they are, or rounded to the nearest, ties to even.
 *
 * @throws {InvalidArgumentError} when a finite value is infinite in `dtype`, or `dtype` is unknown.
 */
export function float32Tensor(
  name: string,
  shape: readonly number[],
  values: Float32Array,
  dtype: WeightsDtype,
): NamedTensor {
  switch (dtype) {
    case 'fp32':
      return { dtype: 'F32', shape: [...shape], data: values };
    case 'fp16':
      refuseOverflow(name, values, FLOAT16_LIMIT);
      return { dtype: 'F16', shape: [...shape], data: encodeFloat16(values) };
    case 'bf16':
      refuseOverflow(name, values, BFLOAT16_LIMIT);
      return { dtype: 'BF16', shape: [...shape], data: encodeBfloat16(values) };
    default:
      throw new InvalidArgumentError(
        `dtype '${String(dtype)}' is unknown: weights are saved as ${WEIGHTS_DTYPES.join(', ')}`,
      );
  }
}

/** Halfway from the largest number to the next power of two: larger values, and these, become infinite. */
const FLOAT16_LIMIT = 65_520;
const BFLOAT16_LIMIT = (2 - 2 ** -8) * 2 ** 127;

function refuseOverflow(name: string, values: Float32Array, limit: number): void {
  const found = values.find((value) => Math.abs(value) >= limit && Number.isFinite(value));
  if (found !== undefined)
    throw new InvalidArgumentError(
      `'${name}' has the value ${found}, which is infinite in this dtype: save it as 'fp32'`,
    );
}
