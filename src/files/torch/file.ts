import type { UnzipFileInfo } from 'fflate';
import { errorText, TorchFileError } from '../../errors.ts';
import { HEAD_BYTES, isTar, kindNote, startsWith } from '../known-files.ts';
import { type Pickled, pickledText, readPickle } from '../pickle.ts';
import { readWholeFile } from '../regular-file.ts';
import { requirePlain, TorchNames, type TorchObject, type TorchValue } from './names.ts';
import { type TorchStorage, TorchTensor } from './tensor.ts';

/*
 * Files of `torch.save`. Since torch 1.6 they are zip archives of a pickle and the storages of its tensors; before, and
 * with `_use_new_zipfile_serialization=False`, pickles one after another, then the storages.
 * Format: https://github.com/pytorch/pytorch/blob/main/torch/serialization.py
 */

const MAX_FILE_BYTES = 2 ** 31;
const MAX_PICKLE_BYTES = 2 ** 26;
const MAX_ENTRIES = 100_000;
/** The first pickle of the legacy format. */
const MAGIC_NUMBER = 0x1950a86a20f9469cfc6cn;
const LEGACY_VERSION = 1001;

/**
 * Reads what `torch.save` wrote: tensors of the CPU or a GPU, parameters, and plain containers, numbers and text. Other
 * objects are refused by their names. Nothing is executed.
 *
 * @throws {TorchFileError} when the file is missing, larger than 2 GiB, truncated, malformed, or holds anything else.
 */
export async function readTorchFile(path: string): Promise<TorchValue> {
  const bytes = await readWholeFile(path, MAX_FILE_BYTES, TorchFileError);
  try {
    if (startsWith(bytes, 'PK\x03\x04')) return await readZip(bytes);
    if (isTar(bytes.subarray(0, HEAD_BYTES)))
      throw new Error('it is a tar archive, as torch wrote before 0.1.10: load it with torch and save it again');
    return readLegacy(bytes);
  } catch (cause) {
    throw new TorchFileError(
      `${path} cannot be read as weights of torch: ${errorText(cause)}. Nothing of it was executed`,
      { cause },
    );
  }
}

/**
 * The tensors of a state dict, by name.
 *
 * @throws {TorchFileError} as `readTorchFile`, and when the file is anything but a dictionary of tensors.
 */
export async function readTorchStateDict(path: string): Promise<Map<string, TorchTensor>> {
  const value = await readTorchFile(path);
  const fail = (what: string) => new TorchFileError(`${path} is not a state dict: ${what}`);
  if (!(value instanceof Map)) throw fail('it is not a dictionary of tensors');
  const tensors = new Map<string, TorchTensor>();
  for (const [key, tensor] of value) {
    if (typeof key !== 'string' || !(tensor instanceof TorchTensor))
      throw fail(`its entry ${JSON.stringify(String(key).slice(0, 80))} is not a tensor with a name`);
    tensors.set(key, tensor);
  }
  return tensors;
}

/** The archive holds `NAME/data.pkl`, `NAME/data/KEY` for each storage, and `NAME/byteorder` since torch 2.1. */
async function readZip(bytes: Uint8Array): Promise<TorchValue> {
  const files = await unpacked(bytes);
  const pickles = Object.keys(files).filter((name) => name.endsWith(PICKLE));
  const [pickle = ''] = pickles;
  if (pickles.length !== 1)
    throw new Error(`the archive holds ${pickles.length} pickles 'NAME/${PICKLE}', where weights have one`);
  const root = pickle.slice(0, -PICKLE.length);
  const byteOrder = pickledText(files[`${root}byteorder`]) ?? LITTLE;
  if (byteOrder !== LITTLE) throw new Error(`its byte order is ${JSON.stringify(byteOrder)}, and only little is read`);
  const names = new TorchNames();
  const { value } = readPickle(files[pickle] ?? new Uint8Array(0), names);
  for (const storage of names.storages.values()) {
    const data = files[`${root}data/${storage.key}`];
    if (!data) throw new Error(`the storage ${storage.key} is not in the archive`);
    if (data.length !== storage.byteLength)
      throw new Error(`the storage ${storage.key} has ${data.length} bytes instead of ${storage.byteLength}`);
    storage.bytes = data;
  }
  return requirePlain(value);
}

const PICKLE = 'data.pkl';
const LITTLE = 'little';
const WANTED = /^([^/]+\/)?(data\.pkl|byteorder|data\/\d+)$/;

/** The pickle and the storages. torch does not compress them, so that they take no more memory than the archive. */
async function unpacked(bytes: Uint8Array): Promise<Record<string, Uint8Array<ArrayBuffer>>> {
  const { unzipSync } = await import('fflate');
  const names = new Set<string>();
  let count = 0;
  let total = 0;
  const filter = ({ name, size, originalSize, compression }: UnzipFileInfo): boolean => {
    if (++count > MAX_ENTRIES) throw new Error(`the archive holds more than ${MAX_ENTRIES} files`);
    if (name.endsWith('constants.pkl'))
      throw new Error('it is a TorchScript program, not weights: load it with torch.jit and save its state_dict()');
    if (!WANTED.test(name)) return false;
    if (names.has(name)) throw new Error(`the archive holds ${name} twice`);
    names.add(name);
    if (compression !== 0 || size !== originalSize)
      throw new Error(`${name} is compressed in the archive, which torch never does`);
    total += size;
    if (total > bytes.length) throw new Error('the files of the archive overlap, or it is truncated');
    if (name.endsWith(PICKLE) && size > MAX_PICKLE_BYTES)
      throw new Error(`${name} has ${size} bytes; at most ${MAX_PICKLE_BYTES} are read`);
    return true;
  };
  return unzipSync(bytes, { filter });
}

/** Pickles of a magic number, a version, the machine, the value and the keys of the storages; then the storages. */
function readLegacy(bytes: Uint8Array): TorchValue {
  const names = new TorchNames();
  const pickles = bytes.subarray(0, MAX_PICKLE_BYTES);
  let at = 0;
  const next = (): Pickled<TorchObject> => {
    const { value, end } = readPickle(pickles, names, at);
    at = end;
    return value;
  };
  if (bytes[0] !== 0x80 || next() !== MAGIC_NUMBER) throw new Error(`it is not a file of torch.save${kindNote(bytes)}`);
  const version = next();
  if (version !== LEGACY_VERSION)
    throw new Error(`its format has the version ${String(version)}, not ${LEGACY_VERSION}`);
  const machine = next();
  if (!(machine instanceof Map) || machine.get('little_endian') !== true)
    throw new Error('its byte order is not little, and only little is read');
  const value = next();
  const keys = next();
  if (!Array.isArray(keys)) throw new Error('it has no list of its storages');
  const missing = new Set(names.storages.keys());
  for (const given of keys) {
    const key = pickledText(given) ?? '';
    const storage = names.storages.get(key);
    if (!storage || !missing.delete(key)) throw new Error(`the storage ${JSON.stringify(key)} belongs to no tensor`);
    at = readStorage(bytes, at, storage);
  }
  const [first] = missing;
  if (first !== undefined) throw new Error(`the storage ${first} is not in the file`);
  return requirePlain(value);
}

/** A storage is its number of elements, 8 bytes, and its data. @returns where it ends. */
function readStorage(bytes: Uint8Array, at: number, storage: TorchStorage): number {
  const begin = at + 8;
  const end = begin + storage.byteLength;
  if (end > bytes.length) throw new Error(`it is truncated: the storage ${storage.key} ends at byte ${end}`);
  const count = new DataView(bytes.buffer, bytes.byteOffset + at, 8).getBigInt64(0, true);
  if (count !== BigInt(storage.count))
    throw new Error(`the storage ${storage.key} has ${count} elements instead of ${storage.count}`);
  // A copy, whose bytes are aligned.
  storage.bytes = bytes.slice(begin, end) as Uint8Array<ArrayBuffer>;
  return end;
}
