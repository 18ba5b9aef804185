import { SafetensorsError } from '../errors.ts';
import { type RegularFile, withRegularFile } from './regular-file.ts';
import {
  buildHeader,
  lengthBytes,
  type NamedTensor,
  parseHeader,
  parseHeaderLength,
  type SafetensorsHeader,
  tensorArray,
} from './safetensors-header.ts';

export type { NamedTensor, SafetensorsDtype, SafetensorsHeader, TensorArray } from './safetensors-header.ts';

/**
 * Reads tensors from a safetensors file. The header is read and checked as a whole; of the data, only the bytes of the
 * tensors asked for.
 *
 * @param options.names the tensors to read, in this order (default all, in the order of the file).
 * @throws SafetensorsError if the file is missing, truncated or malformed, or has no tensor of a given name.
 * @example const weights = await readSafetensors('unet/diffusion_pytorch_model.safetensors');
 */
export async function readSafetensors(
  path: string,
  options: { names?: readonly string[] } = {},
): Promise<Map<string, NamedTensor>> {
  return withSafetensors(path, async (file, { entries, dataStart }) => {
    const tensors = new Map<string, NamedTensor>();
    for (const { name, dtype, shape, begin, end } of select(entries, options.names, path)) {
      const bytes = await file.read(dataStart + begin, dataStart + end);
      tensors.set(name, { dtype, shape, data: tensorArray(dtype, bytes) });
    }
    return tensors;
  });
}

/** Reads and checks the header alone: names, dtypes, shapes, offsets and metadata. Errors as {@link readSafetensors}. */
export async function readSafetensorsHeader(path: string): Promise<SafetensorsHeader> {
  return withSafetensors(path, async (_, header) => header);
}

/** Opens a safetensors file for `use`, its header read and checked. Errors as {@link readSafetensors}. */
export async function withSafetensors<T>(
  path: string,
  use: (file: RegularFile, header: SafetensorsHeader) => Promise<T>,
): Promise<T> {
  return withRegularFile(path, safetensorsError, async (file) => use(file, await readHeader(file, path)));
}

/**
 * Parses the bytes of a safetensors file. The tensors are copies, each aligned to its elements.
 * @throws SafetensorsError if they are truncated or malformed.
 */
export function parseSafetensors(bytes: Uint8Array, where = 'The safetensors data'): Map<string, NamedTensor> {
  const length = parseHeaderLength(bytes.subarray(0, lengthBytes), bytes.length, where);
  const json = bytes.subarray(lengthBytes, lengthBytes + length);
  const { entries, dataStart } = parseHeader(json, bytes.length, where);
  const tensors = new Map<string, NamedTensor>();
  for (const { name, dtype, shape, begin, end } of entries) {
    const data = new Uint8Array(bytes.subarray(dataStart + begin, dataStart + end));
    tensors.set(name, { dtype, shape, data: tensorArray(dtype, data) });
  }
  return tensors;
}

/**
 * The bytes of a safetensors file that holds `tensors`, in pieces without a copy: the header, then a view of each
 * tensor. Equal tensors give equal bytes, whatever their order in the map.
 *
 * @param metadata free strings, by convention `{ format: 'pt' }` for weights that torch code loads.
 * @throws {InvalidArgumentError} if a tensor's name, dtype, shape or data do not fit together, before any piece.
 * @example await writeFileAtomic('model.safetensors', safetensorsChunks(tensors, { format: 'pt' }));
 */
export function safetensorsChunks(
  tensors: ReadonlyMap<string, NamedTensor>,
  metadata?: Readonly<Record<string, string>>,
): Iterable<Uint8Array> {
  const { header, order } = buildHeader(tensors, metadata);
  const views = order.map(({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return [header, ...views];
}

async function readHeader(file: RegularFile, path: string): Promise<SafetensorsHeader> {
  const start = await file.read(0, Math.min(lengthBytes, file.size));
  const length = parseHeaderLength(start, file.size, path);
  const json = await file.read(lengthBytes, lengthBytes + length);
  return parseHeader(json, file.size, path);
}

function select(
  entries: SafetensorsHeader['entries'],
  names: readonly string[] | undefined,
  path: string,
): SafetensorsHeader['entries'] {
  if (names === undefined) return entries;
  const byName = new Map(entries.map((entry) => [entry.name, entry]));
  return names.map((name) => {
    const entry = byName.get(name);
    if (entry === undefined) throw new SafetensorsError(`${path} has no tensor named "${name}".`);
    return entry;
  });
}

function safetensorsError(message: string, options?: ErrorOptions): SafetensorsError {
  return new SafetensorsError(message, options);
}
