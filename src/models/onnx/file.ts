import { realpath } from '#platform/fs';
import { createHash } from '#platform/hash';
import * as path from '#platform/path';
import { OnnxFormatError } from '../../errors.ts';
import { fileDigest, withRegularFile } from '../../files/regular-file.ts';
import type { KnownTensor } from '../../graph/onnx/lowering/operand.ts';
import { externalLocations } from '../../graph/onnx/raw-fields.ts';
import {
  decodeModel,
  type GraphProto,
  MAX_ONNX_BYTES,
  type OnnxProgram,
  type TensorProto,
} from '../../graph/onnx/schema.ts';
import { type ExternalBytes, readTensor, tensorHeader } from '../../graph/onnx/tensors.ts';
import { bytesPerElement, type DType, elementCount } from '../../graph/types.ts';

/** An ONNX file in memory, with the tensors that lie in files beside it. */
export interface OnnxFile {
  readonly bytes: Uint8Array;
  readonly external: ExternalBytes;
}

/**
 * Reads an ONNX file and its external data (`model.onnx_data` and the like). Data is read from the folder of the model
 * only, and only as much as its tensors are declared to hold.
 *
 * @throws {OnnxFormatError} when a file is missing, too short or too large, or a path leaves the folder.
 */
export async function readOnnxFile(file: string): Promise<OnnxFile> {
  const bytes = await readModelBytes(file);
  const pieces = externalPieces(decodeModel(bytes).graph);
  const external = new Map<string, Uint8Array>();
  for (const [location, tensors] of groupByLocation(pieces))
    await withRegularFile(await besideModel(file, location), OnnxFormatError, async (data) => {
      for (const { name, offset, length } of tensors) {
        if (offset + length > data.size)
          throw fail(
            `${location} has ${data.size} bytes, but '${name}' is said to lie at ${offset} to ${offset + length}`,
          );
        external.set(name, await data.read(offset, offset + length));
      }
    });
  return { bytes, external };
}

/**
 * What onnxruntime loads the file from: its bytes, or, where weights lie in files beside it, its path, once those are
 * known to lie in its folder.
 *
 * @throws {OnnxFormatError} as `readOnnxFile`.
 */
export async function onnxSource(file: string): Promise<Uint8Array | string> {
  const bytes = await readModelBytes(file);
  const locations = new Set(externalPieces(decodeModel(bytes).graph).map(({ location }) => location));
  for (const location of locations) await dataFile(file, location);
  return locations.size > 0 ? path.resolve(file) : bytes;
}

/**
 * SHA-256 in hex of an ONNX model with all its weights: of its file, followed by the files beside it that hold external
 * data, in the order of their names. The files are streamed.
 *
 * @param model the bytes of a file without external data, or a path.
 * @throws {OnnxFormatError} when a file is missing, no ONNX model, or a path leaves the folder.
 */
export async function onnxChecksum(model: Uint8Array | string): Promise<string> {
  if (typeof model !== 'string') return createHash('sha256').update(model).digest('hex');
  const locations = await withRegularFile(model, OnnxFormatError, externalLocations);
  const data: string[] = [];
  for (const location of locations) {
    refuseOutside(location, `a tensor of ${model}`);
    data.push(await dataFile(model, location));
  }
  return fileDigest([model, ...data]);
}

function readModelBytes(file: string): Promise<Uint8Array> {
  return withRegularFile(file, OnnxFormatError, async (opened) => {
    if (opened.size > MAX_ONNX_BYTES) throw fail(`${file} has ${opened.size} bytes, more than an ONNX model can have`);
    return opened.read(0, opened.size);
  });
}

interface ExternalPiece {
  readonly name: string;
  readonly location: string;
  readonly offset: number;
  readonly length: number;
}

function externalPieces(graph: GraphProto): ExternalPiece[] {
  return (graph.initializer ?? []).filter(({ dataLocation }) => dataLocation === 1).map(externalPiece);
}

function externalPiece(tensor: TensorProto): ExternalPiece {
  const name = tensor.name ?? '';
  const where = `initializer '${name}'`;
  const { dtype, count } = tensorHeader(tensor, where);
  const entry = (key: string) => tensor.externalData?.find((pair) => pair.key === key)?.value;
  const expected = count * bytesPerElement(dtype);
  const location = entry('location') ?? '';
  const offset = Number(entry('offset') ?? 0);
  const length = Number(entry('length') ?? expected);
  if (!Number.isSafeInteger(offset) || offset < 0 || length !== expected)
    throw fail(
      `${where} of ${expected} bytes is said to lie at offset ${entry('offset')} with length ${entry('length')}`,
    );
  refuseOutside(location, where);
  return { name, location, offset, length };
}

function refuseOutside(location: string, where: string): void {
  const parts = location.split('/');
  const escapes = location === '' || /[\\:\0]/.test(location) || parts.some((part) => part === '..' || part === '');
  if (escapes)
    throw fail(`${where} is said to lie in ${JSON.stringify(location)}, which is not a path in the model's folder`);
}

/**
 * The path of a file that lies in the model's folder, also after links are followed: the Hub's cache links both the model
 * and its data to one folder of blobs.
 */
async function besideModel(model: string, location: string): Promise<string> {
  const file = path.join(path.dirname(model), location);
  const real = await realpath(file).catch(() => undefined);
  if (!real) throw fail(`${file} does not exist: the model keeps its weights there`);
  const folders = [await realpath(path.dirname(model)), path.dirname(await realpath(model))];
  if (folders.some((folder) => real.startsWith(folder + path.sep))) return real;
  throw fail(`${file} is a link that leaves the model's folder`);
}

/** The path of a regular file that `besideModel` finds. */
async function dataFile(model: string, location: string): Promise<string> {
  const file = await besideModel(model, location);
  await withRegularFile(file, OnnxFormatError, async () => undefined);
  return file;
}

function groupByLocation(pieces: readonly ExternalPiece[]): Map<string, ExternalPiece[]> {
  const groups = new Map<string, ExternalPiece[]>();
  for (const piece of pieces) groups.set(piece.location, [...(groups.get(piece.location) ?? []), piece]);
  return groups;
}

function fail(message: string): OnnxFormatError {
  return new OnnxFormatError(message);
}

/** A tensor to be trained. */
interface Weight {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/**
 * The initializers of a file by name: those that are trained, and all others.
 *
 * @param isTrained see `OnnxModelOptions.trainable`.
 * @throws {OnnxFormatError} when one has no name, the name of another, or no data that fit it.
 */
export function readInitializers(
  program: OnnxProgram,
  external: ExternalBytes,
  isTrained: (name: string, shape: readonly number[]) => boolean = isUsualWeight(program),
): { trained: Map<string, Weight>; frozen: Map<string, KnownTensor> } {
  const used = usedNames(program);
  const trained = new Map<string, Weight>();
  const frozen = new Map<string, KnownTensor>();
  for (const [name, tensor] of allTensors(program, external)) {
    const { shape, data } = tensor;
    if (data instanceof Float32Array && used.has(name) && isTrained(name, shape)) trained.set(name, { shape, data });
    else frozen.set(name, tensor);
  }
  return { trained, frozen };
}

/** The types of all initializers in the file, where float16 is not read as float32 yet. */
export function storedTypes({ graph }: OnnxProgram): Map<string, DType> {
  return new Map(
    (graph.initializer ?? []).map((tensor) => [tensor.name ?? '', tensorHeader(tensor, 'an initializer').dtype]),
  );
}

function allTensors({ graph }: OnnxProgram, external: ExternalBytes): Map<string, KnownTensor> {
  const tensors = new Map<string, KnownTensor>();
  for (const tensor of graph.initializer ?? []) {
    const name = tensor.name ?? '';
    if (name === '' || tensors.has(name))
      throw new OnnxFormatError(`the ONNX model has an initializer without a name, or defines '${name}' twice`);
    tensors.set(name, readTensor(tensor, `initializer '${name}'`, external));
  }
  return tensors;
}

/** Names that nodes use. */
function usedNames({ graph }: OnnxProgram): Set<string> {
  const names = new Set<string>();
  const visit = (nodes: typeof graph.node = []) => {
    for (const { input = [], attribute = [] } of nodes) {
      for (const name of input) names.add(name);
      for (const { g } of attribute) visit(g?.node);
    }
  };
  visit(graph.node);
  return names;
}

/** All but scalars, tables of constants, and running statistics. */
function isUsualWeight(program: OnnxProgram): (name: string, shape: readonly number[]) => boolean {
  const statistics = runningStatistics(program);
  return (name, shape) =>
    shape.length > 0 &&
    elementCount(shape) > 0 &&
    // Unnamed constants, such as tables of frequencies, are called so by exporters.
    !/constant/i.test(name) &&
    !statistics.has(name);
}

/** Names of means and variances that BatchNormalization has kept from its training. */
function runningStatistics({ graph }: OnnxProgram): Set<string> {
  const nodes = (graph.node ?? []).filter(({ opType }) => opType === 'BatchNormalization');
  return new Set(nodes.flatMap(({ input = [] }) => input.slice(3, 5)));
}
