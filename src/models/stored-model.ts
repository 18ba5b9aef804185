import { realpath, stat } from '#platform/fs';
import { createHash } from '#platform/hash';
import * as path from '#platform/path';
import { SafetensorsError } from '../errors.ts';
import { withRegularFile } from '../files/regular-file.ts';
import { Graph } from '../graph/graph.ts';
import { replacedInitializers } from '../graph/onnx/raw-fields.ts';
import { type ExternalTensor, encodeModel, modelProto } from '../graph/onnx/write.ts';
import { type DiffusionModel, modelGraph, type TimestepType } from './model.ts';
import { type LocatedWeight, locateModelWeights, readLocatedWeights } from './weights.ts';

/** A model in ONNX whose large weights stay in their safetensors files, from which onnxruntime maps them. */
export interface StoredModel {
  readonly onnx: Uint8Array;
  /** Where the files lie that it names. */
  readonly weightsFolder: string;
  /**
   * The SHA-256 in hex of the same model as one file, as `exportModel` gives it. The first call reads the files.
   *
   * @throws {SafetensorsError} when one of them is not the file any more that was there when the model was opened.
   */
  checksum(): Promise<string>;
}

/** Where a smaller tensor lies is no shorter to say, and it needs a mapping of its own. */
const MIN_MAPPED_BYTES = 2 ** 16;
/** What is read at a time for the checksum. */
const PIECE_BYTES = 2 ** 22;

/**
 * The forward pass of a model with the weights of a safetensors file, or of the `.index.json` of a sharded one. Of tensors
 * that are float32 and not small, only the place is read: no copy of them is made in JavaScript. While onnxruntime has
 * a file mapped, it may be replaced, but not be written to in place. Results are those of the exported model up to rounding.
 *
 * @throws as `readModelWeights`.
 */
export async function storedModel(
  model: DiffusionModel,
  file: string,
  timestepType: TimestepType = 'int64',
): Promise<StoredModel> {
  const located = await locateModelWeights(model, file);
  const { weightsFolder, mapped } = await mappedTensors(located);
  const others = new Map([...located].filter(([name]) => !mapped.has(name)));
  const values = await readLocatedWeights(file, others);
  const graph = new Graph(model.config._class_name);
  modelGraph(
    graph,
    model,
    ({ name, shape }) => {
      const data = values.get(name);
      return data ? graph.constant('float32', shape, data, name) : graph.storedConstant('float32', shape, name);
    },
    timestepType,
  );
  const proto = modelProto(graph, {}, { external: mapped });
  const paths = [...new Set([...mapped.values()].map(({ location }) => path.join(weightsFolder, location)))];
  const opened = await versions(paths);
  const digestFiles = async () => {
    const digest = await checksumOf(encodeModel(proto), mapped, weightsFolder);
    const changed = (await versions(paths)).findIndex((version, i) => version !== opened[i]);
    if (changed < 0) return digest;
    throw new SafetensorsError(`${paths[changed]} has changed since the model was opened: open the model again`);
  };
  let digested: Promise<string> | undefined;
  const checksum = () => {
    digested ??= digestFiles();
    return digested;
  };
  return { onnx: encodeModel(proto), weightsFolder, checksum };
}

/** The tensors that onnxruntime can map: in the folder of the first file, after links are followed. */
async function mappedTensors(
  located: ReadonlyMap<string, LocatedWeight>,
): Promise<Pick<StoredModel, 'weightsFolder'> & { mapped: Map<string, ExternalTensor> }> {
  const files = [...new Set([...located.values()].map(({ file }) => file))];
  const realPaths = new Map(await Promise.all(files.map(async (file) => [file, await realpath(file)] as const)));
  const [first = ''] = realPaths.values();
  const weightsFolder = path.dirname(first);
  const mapped = new Map<string, ExternalTensor>();
  for (const [name, { file, dtype, offset, length }] of located) {
    const real = realPaths.get(file) ?? file;
    const isAligned = offset % Float32Array.BYTES_PER_ELEMENT === 0;
    if (dtype === 'F32' && isAligned && length >= MIN_MAPPED_BYTES && path.dirname(real) === weightsFolder)
      mapped.set(name, { location: path.basename(real), offset, length });
  }
  return { weightsFolder, mapped };
}

/** What a file is replaced or written to changes. */
function versions(paths: readonly string[]): Promise<string[]> {
  return Promise.all(
    paths.map(async (file) => {
      const { ino, size, mtimeMs } = await stat(file);
      return `${ino} ${size} ${mtimeMs}`;
    }),
  );
}

async function checksumOf(
  onnx: Uint8Array,
  mapped: ReadonlyMap<string, ExternalTensor>,
  folder: string,
): Promise<string> {
  const hash = createHash('sha256');
  const read = new Uint8Array(PIECE_BYTES);
  for (const piece of replacedInitializers(onnx, (name) => mapped.get(name))) {
    if (piece instanceof Uint8Array) {
      hash.update(piece);
      continue;
    }
    const { location, offset, length } = piece;
    await withRegularFile(path.join(folder, location), SafetensorsError, async (file) => {
      for (let done = 0; done < length; done += PIECE_BYTES) {
        const target = read.subarray(0, Math.min(PIECE_BYTES, length - done));
        await file.readInto(target, offset + done);
        hash.update(target);
      }
    });
  }
  return hash.digest('hex');
}
