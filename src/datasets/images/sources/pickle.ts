import { DatasetError, errorText } from '../../../errors.ts';

/*
 * The pickles of CIFAR's Python version: dictionaries of numbers, text, lists and arrays of bytes. Unpickling is running a
 * program that may name any function of Python. Here the few instructions that make plain data are known, and of functions
 * those that numpy's arrays of bytes need; all others are an error. Nothing is executed.
 * Instructions: https://github.com/python/cpython/blob/main/Lib/pickletools.py
 */

/** What the pickles hold. Text of Python 2 and bytes are both bytes. */
export type Pickled =
  | number
  | boolean
  | null
  | string
  | Uint8Array
  | Pickled[]
  | Map<string, Pickled>
  | PickledArray
  | FunctionName;

/** A numpy array of bytes; `shape` is empty until its state is known. */
export interface PickledArray {
  shape: readonly number[];
  bytes: Uint8Array;
}

interface FunctionName {
  readonly name: string;
}

const RECONSTRUCT = /^numpy\._?core\.multiarray\._reconstruct$/;
const FROM_BUFFER = /^numpy\._?core\.numeric\._frombuffer$/;
const DTYPE = 'numpy.dtype';
const ENCODE = '_codecs.encode';
const MARK = Symbol('mark');
type Item = Pickled | typeof MARK;

/** Text of a pickle, whichever way it is stored; undefined for anything else. */
export function pickledText(value: Pickled | undefined): string | undefined {
  return value instanceof Uint8Array
    ? Buffer.from(value).toString('latin1')
    : typeof value === 'string'
      ? value
      : undefined;
}

export function isPickledArray(value: Pickled | typeof MARK | undefined): value is PickledArray {
  return value instanceof Object && 'bytes' in value && 'shape' in value;
}

/** The data of a pickle. @throws {DatasetError} for anything but plain data; `where` names the file. */
export function parsePickle(bytes: Uint8Array, where: string): Pickled {
  try {
    return new Unpickler(bytes).run();
  } catch (cause) {
    throw new DatasetError(`${where} is not a pickle of plain data: ${errorText(cause)}. Nothing of it was executed`, {
      cause,
    });
  }
}

class Unpickler {
  private readonly stack: Item[] = [];
  private readonly memo = new Map<number, Item>();
  private readonly data: Buffer;
  private at = 0;

  constructor(bytes: Uint8Array) {
    this.data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  run(): Pickled {
    for (;;) {
      const code = String.fromCharCode(this.unsigned(1));
      if (code === '.') return this.pop();
      if (!this.makes(code) && !this.changes(code))
        throw new Error(`the instruction 0x${code.charCodeAt(0).toString(16)} at byte ${this.at - 1} is not read`);
    }
  }

  /** Instructions that put a value on the stack. */
  private makes(code: string): boolean {
    const value = this.valueOf(code);
    if (value === undefined) return false;
    this.stack.push(value);
    return true;
  }

  private valueOf(code: string): Item | undefined {
    switch (code) {
      case '(':
        return MARK;
      case 'N':
        return null;
      case '\x88':
        return true;
      case '\x89':
        return false;
      case 'K':
        return this.unsigned(1);
      case 'M':
        return this.unsigned(2);
      case 'J':
        return this.take(4).readInt32LE();
      case 'I':
        return Number.parseInt(this.line(), 10);
      case '\x8a':
        return this.long(this.unsigned(1));
      case 'U':
      case 'C':
        return this.take(this.unsigned(1));
      case 'T':
      case 'B':
        return this.take(this.unsigned(4));
      case '\x8e':
      case '\x96':
        return this.take(this.length64());
      case 'S':
        return Buffer.from(this.line().replace(/^(['"])(.*)\1$/, '$2'), 'latin1');
      case '\x8c':
        return this.take(this.unsigned(1)).toString();
      case 'X':
        return this.take(this.unsigned(4)).toString();
      case 'c':
        return { name: `${this.line()}.${this.line()}` };
      case ']':
      case ')':
        return [];
      case '}':
        return new Map();
      case 'l':
      case 't':
        return this.popToMark();
      case 'd':
        return setItems(new Map(), this.popToMark());
      case '\x85':
        return this.popLast(1);
      case '\x86':
        return this.popLast(2);
      case '\x87':
        return this.popLast(3);
      case 'h':
        return this.remembered(this.unsigned(1));
      case 'j':
        return this.remembered(this.unsigned(4));
      case 'g':
        return this.remembered(Number.parseInt(this.line(), 10));
      case '\x93': {
        const [module, name] = this.popLast(2).map((part) => pickledText(part));
        return { name: `${module}.${name}` };
      }
      case 'R': {
        const [called, values] = this.popLast(2);
        return result(called, values);
      }
      default:
        return undefined;
    }
  }

  /** Instructions that change a value, remember one or mean nothing here. */
  private changes(code: string): boolean {
    switch (code) {
      case '\x80':
        this.unsigned(1);
        return true;
      case '\x95':
        this.length64();
        return true;
      case 'q':
        return this.remember(this.unsigned(1));
      case 'r':
        return this.remember(this.unsigned(4));
      case 'p':
        return this.remember(Number.parseInt(this.line(), 10));
      case '\x94':
        return this.remember(this.memo.size);
      case 'a':
        return this.extend(this.popLast(1));
      case 'e':
        return this.extend(this.popToMark());
      case 's':
        return this.fill(this.popLast(2));
      case 'u':
        return this.fill(this.popToMark());
      case 'b': {
        const state = this.pop();
        const built = this.top();
        if (isPickledArray(built)) setState(built, state);
        else if (!isDtype(built)) throw new Error('it gives a state to what is not an array');
        return true;
      }
      default:
        return false;
    }
  }

  private take(length: number): Buffer {
    if (length > this.data.length - this.at) throw new Error('it ends too early');
    this.at += length;
    return this.data.subarray(this.at - length, this.at);
  }

  private unsigned(length: number): number {
    return this.take(length).readUIntLE(0, length);
  }

  private length64(): number {
    return Number(this.take(8).readBigUInt64LE());
  }

  private long(length: number): number {
    return length === 0 ? 0 : length <= 6 ? this.take(length).readIntLE(0, length) : Number.NaN;
  }

  private line(): string {
    const end = this.data.indexOf(0x0a, this.at);
    if (end < 0) throw new Error('it ends too early');
    const text = this.data.toString('latin1', this.at, end);
    this.at = end + 1;
    return text;
  }

  private pop(): Pickled {
    return this.popLast(1)[0] as Pickled;
  }

  private top(): Item | undefined {
    return this.stack.at(-1);
  }

  private popLast(count: number): Pickled[] {
    const values = this.stack.splice(Math.max(0, this.stack.length - count));
    if (values.length < count) throw new Error('it takes a value that is not there');
    return values.filter((value) => value !== MARK);
  }

  private popToMark(): Pickled[] {
    const mark = this.stack.lastIndexOf(MARK);
    if (mark < 0) throw new Error('it takes values that are not there');
    return this.stack.splice(mark).slice(1) as Pickled[];
  }

  private remember(key: number): true {
    const value = this.top();
    if (value === undefined) throw new Error('it remembers a value that is not there');
    this.memo.set(key, value);
    return true;
  }

  private remembered(key: number): Item {
    const value = this.memo.get(key);
    if (value === undefined) throw new Error('it recalls a value that is not there');
    return value;
  }

  private extend(values: readonly Pickled[]): true {
    const list = this.top();
    if (!Array.isArray(list)) throw new Error('it adds to what is not a list');
    for (const value of values) list.push(value);
    return true;
  }

  private fill(values: readonly Pickled[]): true {
    const map = this.top();
    if (!(map instanceof Map)) throw new Error('it sets a key of what is not a dictionary');
    setItems(map, values);
    return true;
  }
}

function setItems(map: Map<string, Pickled>, items: readonly Pickled[]): Map<string, Pickled> {
  for (let i = 0; i + 1 < items.length; i += 2) {
    const key = pickledText(items[i]);
    if (key === undefined) throw new Error('a key is not text');
    map.set(key, items[i + 1] as Pickled);
  }
  return map;
}

const isDtype = (value: Item | undefined): value is FunctionName =>
  value instanceof Object && 'name' in value && value.name.startsWith('dtype ');

/** What a function of the few known ones returns. */
function result(called: Pickled | undefined, values: Pickled | undefined): Pickled {
  const name = called instanceof Object && 'name' in called ? called.name : 'what is not a function';
  const [first, dtype, shape, order] = Array.isArray(values) ? values : [];
  if (RECONSTRUCT.test(name)) return { shape: [], bytes: new Uint8Array(0) };
  if (FROM_BUFFER.test(name)) {
    const array = { shape: [], bytes: new Uint8Array(0) };
    setState(array, [0, shape ?? null, dtype ?? null, pickledText(order) !== 'C', first ?? null]);
    return array;
  }
  if (name === DTYPE) return { name: `dtype ${pickledText(first)}` };
  if (name === ENCODE) return Buffer.from(pickledText(first) ?? '', 'latin1');
  throw new Error(`it calls ${name}`);
}

/** numpy's state of an array: (version, shape, dtype, whether it is stored by columns, bytes). */
function setState(array: PickledArray, state: Pickled): void {
  const [, shape, dtype, isByColumns, bytes] = Array.isArray(state) ? state : [];
  if (
    !Array.isArray(shape) ||
    !(bytes instanceof Uint8Array) ||
    isByColumns ||
    !isDtype(dtype) ||
    dtype.name !== 'dtype u1'
  )
    throw new Error('an array is not one of bytes, row after row');
  const sides = shape.map(Number);
  if (sides.reduce((product, side) => product * side, 1) !== bytes.length)
    throw new Error(`an array of ${sides.join('x')} has ${bytes.length} bytes`);
  array.shape = sides;
  array.bytes = bytes;
}
