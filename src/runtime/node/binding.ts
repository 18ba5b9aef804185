import { readFile } from 'node:fs/promises';
import vm from 'node:vm';
import * as ort from 'onnxruntime-node';
import { DeviceError } from '../../errors.ts';
import { resolveDependency } from '../../files/package-files.ts';

/*
 * Jest and Vitest's vm pools run modules in a context of node:vm: a realm with typed arrays of its own. The native half
 * of onnxruntime-node makes its results in the main realm, and its JavaScript half, loaded in the other one, then
 * refuses them (`data instanceof Float32Array`). So there the sessions are those of the main realm, and tensors cross
 * over as views of the same memory.
 */

type Realm = typeof globalThis;
type Tensors<T> = Readonly<Record<string, T>>;

export const mainRealm: Realm = vm.runInThisContext('globalThis');
/** Whether this code runs in another realm than the native half of onnxruntime-node. */
const isForeign = mainRealm.Float32Array !== Float32Array;

// From version 1.29 on, onnxruntime on Linux and macOS sends Microsoft data on the models that it runs, unless this variable
// is set when the process makes its first session. It holds for all threads and for processes that are started from here.
mainRealm.process.env.ORT_DISABLE_TELEMETRY ??= '1';

let loaded: typeof ort | undefined;

/**
 * onnxruntime-node in the realm of its native half.
 *
 * @throws {DeviceError} where this code runs in a context of node:vm, and this Node.js cannot load it outside.
 */
export function nativeOrt(): typeof ort {
  loaded ??= isForeign ? loadInMainRealm() : ort;
  return loaded;
}

function loadInMainRealm(): typeof ort {
  // A `createRequire` that is imported here may be a test runner's own, which loads into its context.
  const nodeModule = mainRealm.process.getBuiltinModule?.('module');
  if (nodeModule === undefined)
    throw new DeviceError(
      "this code runs in a context of node:vm (Jest, or a vm pool of Vitest), and onnxruntime-node refuses the typed arrays made there: use Node.js 20.16 or later, or Vitest's pool 'forks' or 'threads'",
    );
  const file = resolveDependency('onnxruntime-node');
  return nodeModule.createRequire(file)(file);
}

/** The bytes of a model as `InferenceSession.create` of `nativeOrt` takes them. */
export const nativeBytes = (bytes: Uint8Array): Uint8Array => (isForeign ? viewIn(mainRealm, bytes) : bytes);

/** Tensors to write results into, as a session of `nativeOrt` takes them; null stays. */
export function nativeTensors(tensors: Tensors<ort.Tensor | null>): Tensors<ort.Tensor | null> {
  if (!isForeign) return tensors;
  const { Tensor } = nativeOrt();
  return mapTensors(tensors, ({ type, data, dims }) => new Tensor(type, viewIn(mainRealm, data), dims));
}

/** The results of a session of `nativeOrt`, for this realm. */
export function localTensors(tensors: Tensors<ort.Tensor>): Tensors<ort.Tensor> {
  if (!isForeign) return tensors;
  return mapTensors(tensors, ({ type, data, dims }) => new ort.Tensor(type, viewIn(globalThis, data), [...dims]));
}

/** Maps the tensors on the host; one on a GPU has no data here. */
function mapTensors<T extends ort.Tensor | null>(tensors: Tensors<T>, change: (tensor: ort.Tensor) => T): Tensors<T> {
  const entries = Object.entries(tensors).map(([name, tensor]) => [
    name,
    tensor?.location === 'cpu' ? change(tensor) : tensor,
  ]);
  return Object.fromEntries(entries);
}

/** An array of this realm with the memory of one of any realm, such as one that came from another thread. */
export function localData<Data extends ort.Tensor['data']>(data: Data): Data {
  return isForeign ? viewIn(globalThis, data) : data;
}

function viewIn<Data extends ort.Tensor['data']>(realm: Realm, data: Data): Data {
  if (!ArrayBuffer.isView(data)) return data;
  const View = realm[data[Symbol.toStringTag] as 'Uint8Array'];
  const { buffer, byteOffset, length } = data;
  return new View(buffer, byteOffset, length) as ort.Tensor['data'] as Data;
}

/** The bytes of a model on disk. */
export const modelBytes = (file: string): Promise<Uint8Array> => readFile(file);

/** Nothing to do: onnxruntime-node runs on a thread of its own. */
export const afterRun = (): Promise<void> | undefined => undefined;

/** Whether a run blocks the thread that calls it. */
export const runsBlock: boolean = false;

/** Whether onnxruntime may map files that a model names: Windows lets no file be replaced or removed while it is mapped. */
export const mapsFiles: boolean = process.platform !== 'win32';

/** Whether settings come too late: never, each session reads them. */
export const isFixed = (): boolean => false;
