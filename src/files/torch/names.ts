import { type Pickled, type PickledKey, type PickleNames, pickledText } from '../pickle.ts';
import { dtypeBytes, NAMED_DTYPES, STORAGE_DTYPES, TorchStorage, TorchTensor } from './tensor.ts';

/** The plain values of a file: Python's, and tensors. Tuples and torch.Size are arrays. */
export type TorchValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | TorchTensor
  | TorchValue[]
  | Map<PickledKey, TorchValue>;

/** A function, or a type. */
class TorchName {
  constructor(readonly name: string) {}
}

/** What names and ids of a pickle stand for. */
export type TorchObject = TorchTensor | TorchStorage | TorchName;
type Value = Pickled<TorchObject>;

const FUNCTIONS = [
  'collections.OrderedDict',
  '_codecs.encode',
  'torch.Size',
  'torch._utils._rebuild_tensor',
  'torch._utils._rebuild_tensor_v2',
  'torch._utils._rebuild_tensor_v3',
  'torch._utils._rebuild_parameter',
  'torch.nn.parameter.Parameter',
];
const UNTYPED = /^torch\.(storage\.)?UntypedStorage$/;
const STORAGE = /^torch\.(?:cuda\.)?(\w+Storage)$/;
const DTYPE = /^torch\.(\w+)$/;

/**
 * The names of Python that dense tensors and plain containers need, of those that torch itself allows with
 * `weights_only=True`. It also collects the storages that are referred to.
 */
export class TorchNames implements PickleNames<TorchObject> {
  readonly storages = new Map<string, TorchStorage>();
  /** OrderedDicts, whose attributes are such as `_metadata`, and parameters, whose state are flags of training. */
  private readonly stateful = new Set<Value>();

  named(name: string): TorchName {
    if (FUNCTIONS.includes(name) || UNTYPED.test(name) || storageDtype(name) || namedDtype(name))
      return new TorchName(name);
    throw new Error(`it names ${name}`);
  }

  call(called: Value, values: readonly Value[]): Value {
    const name = called instanceof TorchName ? called.name : undefined;
    switch (name) {
      case 'collections.OrderedDict':
        return this.withState(orderedDict(values));
      case 'torch.Size':
        return [...listOf(values[0], 'torch.Size')];
      case '_codecs.encode':
        // Bytes, as protocol 2 writes them.
        return Buffer.from(pickledText(values[0]) ?? '', 'latin1');
      case 'torch._utils._rebuild_tensor':
      case 'torch._utils._rebuild_tensor_v2':
        return rebuilt(values, values[6]);
      case 'torch._utils._rebuild_tensor_v3':
        return rebuilt(values, values[7], values[6]);
      case 'torch._utils._rebuild_parameter':
      case 'torch.nn.parameter.Parameter':
        if (!(values[0] instanceof TorchTensor)) throw new Error('it makes a parameter of what is not a tensor');
        return this.withState(values[0]);
      default:
        throw new Error(`it calls ${name ?? 'what is not a function'}`);
    }
  }

  /** Nothing of a state is read. */
  setState(built: Value): void {
    if (!this.stateful.has(built)) throw new Error('it gives a state to what takes none');
  }

  /** ('storage', type, key, device, count), and in the legacy format a view of the storage. */
  persistent(id: Value): TorchStorage {
    const [kind, type, keyGiven, , count, view = null] = Array.isArray(id) ? id : [];
    const [kindText, key] = [pickledText(kind), pickledText(keyGiven)];
    if (kindText === 'module')
      throw new Error('it holds a torch.nn.Module with its code: save its state_dict() instead');
    const dtype = type instanceof TorchName ? storageDtype(type.name) : undefined;
    const isStorage = type instanceof TorchName && (dtype !== undefined || UNTYPED.test(type.name));
    if (kindText !== 'storage' || !isStorage || key === undefined || !/^\d{1,20}$/.test(key) || !isCount(count))
      throw new Error('it has a persistent id that is not that of a storage');
    if (view !== null) throw new Error(`the storage ${key} is a view of another, which this package does not read`);
    const known = this.storages.get(key);
    if (known && (known.dtype !== dtype || known.count !== count))
      throw new Error(`the storage ${key} has two types or sizes`);
    const storage = known ?? new TorchStorage(key, dtype, count);
    this.storages.set(key, storage);
    return storage;
  }

  private withState(value: Value): Value {
    this.stateful.add(value);
    return value;
  }
}

/** @throws {Error} unless every value is plain. Values may refer to each other in circles. */
export function requirePlain(root: Value): TorchValue {
  const seen = new Set<Value>([root]);
  for (const value of seen) {
    if (value instanceof TorchName) throw new Error(`it has ${value.name} as a value`);
    if (value instanceof TorchStorage) throw new Error(`it has the storage ${value.key} as a value, not a tensor`);
    const inner = value instanceof Map ? value.values() : Array.isArray(value) ? value : [];
    // A set visits what is added while it is walked.
    for (const one of inner) if (typeof one === 'object' && one !== null) seen.add(one);
  }
  return root as TorchValue;
}

function storageDtype(name: string) {
  const [, storage = ''] = STORAGE.exec(name) ?? [];
  return Object.hasOwn(STORAGE_DTYPES, storage) ? STORAGE_DTYPES[storage] : undefined;
}

function namedDtype(name: string) {
  const [, dtype = ''] = DTYPE.exec(name) ?? [];
  return Object.hasOwn(NAMED_DTYPES, dtype) ? NAMED_DTYPES[dtype] : undefined;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function listOf(value: Value | undefined, what: string): Value[] {
  if (Array.isArray(value)) return value;
  throw new Error(`${what} is not a list`);
}

/** Python 2 gives the items as a list of pairs, Python 3 sets them afterwards. */
function orderedDict([items = []]: readonly Value[]): Map<PickledKey, Value> {
  const pairs = listOf(items, 'the argument of an OrderedDict').map((pair) =>
    listOf(pair, 'an item of an OrderedDict'),
  );
  return new Map(
    pairs.map(([key, value = null]): [string, Value] => {
      const text = pickledText(key);
      if (text === undefined) throw new Error('a key of an OrderedDict is not text');
      return [text, value];
    }),
  );
}

/** (storage, offset, shape, strides, requires_grad, hooks, ...), as `torch._utils` has it. */
function rebuilt(
  [storage, offset, shapeGiven, stridesGiven]: readonly Value[],
  metadata: Value = null,
  dtypeGiven: Value = null,
): TorchTensor {
  if (!(storage instanceof TorchStorage)) throw new Error('it makes a tensor without a storage');
  if (metadata !== null && !(metadata instanceof Map && metadata.size === 0))
    throw new Error('a tensor has metadata, such as a conjugate or negative view: save tensor.clone() instead');
  const dtype = storage.dtype ?? (dtypeGiven instanceof TorchName ? namedDtype(dtypeGiven.name) : undefined);
  if (dtype === undefined) throw new Error('a tensor of bytes without a type');
  const sizes = (value: Value | undefined, what: string) =>
    listOf(value, what).map((size) => (typeof size === 'number' ? size : Number.NaN));
  const at = typeof offset === 'number' ? offset : Number.NaN;
  if (storage.byteLength % dtypeBytes(dtype) !== 0)
    throw new Error(`the storage ${storage.key} of ${storage.byteLength} bytes does not hold whole ${dtype}`);
  return new TorchTensor(storage, dtype, at, sizes(shapeGiven, 'a shape'), sizes(stridesGiven, 'strides'));
}
