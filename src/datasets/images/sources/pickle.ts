import { DatasetError, errorText } from '../../../errors.ts';
import { type Pickled as PickledOf, type PickleNames, pickledText, readPickle } from '../../../files/pickle.ts';

/*
 * The pickles of CIFAR's Python version: dictionaries of numbers, text, lists and arrays of bytes. Of functions, those are
 * known that numpy's arrays of bytes need.
 */

/** What the pickles hold. */
export type Pickled = PickledOf<PickledArray | PickledName>;

/** A numpy array of bytes; `shape` is empty until its state is known. */
export class PickledArray {
  shape: readonly number[] = [];
  bytes: Uint8Array = new Uint8Array(0);
}

/** A function, or a numpy type of elements. */
class PickledName {
  constructor(
    readonly name: string,
    /** The type's, such as 'u1'. */
    readonly dtype?: string | undefined,
  ) {}
}

const RECONSTRUCT = /^numpy\._?core\.multiarray\._reconstruct$/;
const FROM_BUFFER = /^numpy\._?core\.numeric\._frombuffer$/;
const DTYPE = 'numpy.dtype';
const ENCODE = '_codecs.encode';
/** What the arrays name besides; it is only handed on. */
const ARRAY = 'numpy.ndarray';

const names: PickleNames<PickledArray | PickledName> = {
  named(name) {
    if (RECONSTRUCT.test(name) || FROM_BUFFER.test(name) || [DTYPE, ENCODE, ARRAY].includes(name))
      return new PickledName(name);
    throw new Error(`it names ${name}`);
  },
  call(called, [first = null, second = null, shape = null, order = null]) {
    const name = called instanceof PickledName && called.dtype === undefined ? called.name : 'what is not a function';
    if (RECONSTRUCT.test(name)) return new PickledArray();
    if (FROM_BUFFER.test(name)) {
      const array = new PickledArray();
      setArray(array, [0, shape, second, pickledText(order) !== 'C', first]);
      return array;
    }
    if (name === DTYPE) return new PickledName(DTYPE, pickledText(first) ?? '');
    if (name === ENCODE) return Buffer.from(pickledText(first) ?? '', 'latin1');
    throw new Error(`it calls ${name}`);
  },
  setState(built, state) {
    if (built instanceof PickledArray) setArray(built, state);
    // A type's state is its byte order and the like, which bytes do not have.
    else if (!(built instanceof PickledName && built.dtype !== undefined))
      throw new Error('it gives a state to what is not an array');
  },
  persistent() {
    throw new Error('it has a persistent id');
  },
};

/** The data of a pickle. @throws {DatasetError} for anything but plain data; `where` names the file. */
export function parsePickle(bytes: Uint8Array, where: string): Pickled {
  try {
    return readPickle(bytes, names).value;
  } catch (cause) {
    throw new DatasetError(`${where} is not a pickle of plain data: ${errorText(cause)}. Nothing of it was executed`, {
      cause,
    });
  }
}

/** numpy's state of an array: (version, shape, dtype, whether it is stored by columns, bytes). */
function setArray(array: PickledArray, state: Pickled): void {
  const [, shape, dtype, isByColumns, bytes] = Array.isArray(state) ? state : [];
  if (
    !Array.isArray(shape) ||
    !(bytes instanceof Uint8Array) ||
    isByColumns ||
    !(dtype instanceof PickledName && dtype.dtype === 'u1')
  )
    throw new Error('an array is not one of bytes, row after row');
  const sides = shape.map(Number);
  if (sides.reduce((product, side) => product * side, 1) !== bytes.length)
    throw new Error(`an array of ${sides.join('x')} has ${bytes.length} bytes`);
  array.shape = sides;
  array.bytes = bytes;
}
