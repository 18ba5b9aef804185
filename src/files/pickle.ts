/*
 * Pickles as data. Unpickling is running a program that may name and call any function of Python. Here the instructions
 * that make plain values are known. What a name stands for, and what calling it gives, is up to the reader of a format,
 * which knows a handful of names. Every other instruction and name is an error. Nothing is executed.
 * Instructions: https://github.com/python/cpython/blob/main/Lib/pickletools.py
 */

/** A key of a dictionary; bytes, as Python 2 writes text, have become text. */
export type PickledKey = string | number | bigint | boolean | null;

/** What a pickle holds. Tuples are arrays too. Text of Python 2 and bytes are both bytes. `Own` is the format's. */
export type Pickled<Own> =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Pickled<Own>[]
  | Map<PickledKey, Pickled<Own>>
  | Own;

/** The names that a format knows. */
export interface PickleNames<Own> {
  /** What `module.name` stands for. @throws for every name that the format does not have. */
  named(name: string): Own;
  /** What `called` gives for the arguments. @throws for anything that is not a function of the format. */
  call(called: Pickled<Own>, values: readonly Pickled<Own>[]): Pickled<Own>;
  /** Gives a state to a value that was made before. @throws where the value takes none. */
  setState(built: Pickled<Own>, state: Pickled<Own>): void;
  /** What an id of an object outside of the pickle stands for. @throws where there is no such object. */
  persistent(id: Pickled<Own>): Pickled<Own>;
}

/** Text of a pickle, whichever way it is stored; undefined for anything else. */
export function pickledText(value: unknown): string | undefined {
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.length).toString('latin1');
  return typeof value === 'string' ? value : undefined;
}

/** Plain data needs a few for each value: more than these are an attack on the memory. */
const MAX_INSTRUCTIONS = 2 ** 22;
const HIGHEST_PROTOCOL = 5;

/** The instructions that are refused, by their names. */
const REFUSED: Readonly<Record<string, string>> = {
  '0': 'POP',
  '1': 'POP_MARK',
  '2': 'DUP',
  P: 'PERSID',
  V: 'UNICODE',
  i: 'INST',
  o: 'OBJ',
  '\x81': 'NEWOBJ',
  '\x82': 'EXT1',
  '\x83': 'EXT2',
  '\x84': 'EXT4',
  '\x8b': 'LONG4',
  '\x8f': 'EMPTY_SET',
  '\x90': 'ADDITEMS',
  '\x91': 'FROZENSET',
  '\x92': 'NEWOBJ_EX',
  '\x97': 'NEXT_BUFFER',
  '\x98': 'READONLY_BUFFER',
};

/**
 * Reads one pickle.
 *
 * @param begin where it begins in the bytes. Default 0.
 * @returns its value, and where the bytes after it begin.
 * @throws {Error} that says, for "the file ...: ", what is wrong with it. The reader of a format gives it the file's name.
 */
export function readPickle<Own>(
  bytes: Uint8Array,
  names: PickleNames<Own>,
  begin = 0,
): { value: Pickled<Own>; end: number } {
  return new Unpickler(bytes, names, begin).run();
}

const MARK = Symbol('mark');
type Item<Own> = Pickled<Own> | typeof MARK;

class Unpickler<Own> {
  private readonly stack: Item<Own>[] = [];
  private readonly memo = new Map<number, Item<Own>>();
  private readonly data: Buffer;

  constructor(
    bytes: Uint8Array,
    private readonly names: PickleNames<Own>,
    private at: number,
  ) {
    this.data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  run(): { value: Pickled<Own>; end: number } {
    for (let count = 0; count < MAX_INSTRUCTIONS; count++) {
      const code = String.fromCharCode(this.unsigned(1));
      if (code === '.') return { value: this.pop(), end: this.at };
      if (!this.makes(code) && !this.changes(code)) {
        const number = `0x${code.charCodeAt(0).toString(16).padStart(2, '0')}`;
        const name = REFUSED[code] ? `${REFUSED[code]} (${number})` : number;
        throw new Error(`the instruction ${name} at byte ${this.at - 1} is not read`);
      }
    }
    throw new Error(`it has more than ${MAX_INSTRUCTIONS} instructions`);
  }

  /** Instructions that put a value on the stack. */
  private makes(code: string): boolean {
    const value = this.valueOf(code);
    if (value === undefined) return false;
    this.stack.push(value);
    return true;
  }

  private valueOf(code: string): Item<Own> | undefined {
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
        return integerLine(this.line());
      case 'L':
        return integerLine(this.line().replace(/L$/, ''));
      case '\x8a':
        return integer(this.take(this.unsigned(1)));
      case 'G':
        return this.take(8).readDoubleBE();
      case 'F':
        return Number(this.line());
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
      case '\x8d':
        return this.take(this.length64()).toString();
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
      case 'c':
        return this.names.named(`${this.line()}.${this.line()}`);
      case '\x93': {
        const [module, name] = this.popLast(2).map((part) => pickledText(part));
        return this.names.named(`${module}.${name}`);
      }
      case 'R': {
        const [called = null, values] = this.popLast(2);
        if (!Array.isArray(values)) throw new Error('it calls a function without a list of arguments');
        return this.names.call(called, values);
      }
      case 'Q':
        return this.names.persistent(this.pop());
      default:
        return undefined;
    }
  }

  /** Instructions that change a value, remember one or mean nothing here. */
  private changes(code: string): boolean {
    switch (code) {
      case '\x80': {
        const protocol = this.unsigned(1);
        if (protocol > HIGHEST_PROTOCOL) throw new Error(`it has the protocol ${protocol}, which is not known`);
        return true;
      }
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
        this.names.setState(this.top() as Pickled<Own>, state);
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

  private line(): string {
    const end = this.data.indexOf(0x0a, this.at);
    if (end < 0) throw new Error('it ends too early');
    const text = this.data.toString('latin1', this.at, end);
    this.at = end + 1;
    return text;
  }

  private pop(): Pickled<Own> {
    return this.popLast(1)[0] as Pickled<Own>;
  }

  /** What the next instruction changes. */
  private top(): Item<Own> {
    const value = this.stack.at(-1);
    if (value === undefined || value === MARK) throw new Error('it changes a value that is not there');
    return value;
  }

  private popLast(count: number): Pickled<Own>[] {
    const values = this.stack.splice(Math.max(0, this.stack.length - count));
    if (values.length < count || values.includes(MARK)) throw new Error('it takes a value that is not there');
    return values as Pickled<Own>[];
  }

  private popToMark(): Pickled<Own>[] {
    const mark = this.stack.lastIndexOf(MARK);
    if (mark < 0) throw new Error('it takes values that are not there');
    return this.stack.splice(mark).slice(1) as Pickled<Own>[];
  }

  private remember(key: number): true {
    const value = this.stack.at(-1);
    if (value === undefined) throw new Error('it remembers a value that is not there');
    this.memo.set(key, value);
    return true;
  }

  private remembered(key: number): Item<Own> {
    const value = this.memo.get(key);
    if (value === undefined) throw new Error('it recalls a value that is not there');
    return value;
  }

  private extend(values: readonly Pickled<Own>[]): true {
    const list = this.top();
    if (!Array.isArray(list)) throw new Error('it adds to what is not a list');
    for (const value of values) list.push(value);
    return true;
  }

  private fill(values: readonly Pickled<Own>[]): true {
    const map = this.top();
    if (!(map instanceof Map)) throw new Error('it sets a key of what is not a dictionary');
    setItems(map, values);
    return true;
  }
}

function setItems<Own>(
  map: Map<PickledKey, Pickled<Own>>,
  items: readonly Pickled<Own>[],
): Map<PickledKey, Pickled<Own>> {
  for (let i = 0; i + 1 < items.length; i += 2) map.set(keyOf(items[i]), items[i + 1] as Pickled<Own>);
  return map;
}

function keyOf(value: unknown): PickledKey {
  const text = pickledText(value);
  if (text !== undefined) return text;
  if (value === null || ['number', 'bigint', 'boolean'].includes(typeof value)) return value as PickledKey;
  throw new Error('a key is neither text nor a number');
}

/** An integer of a line of text, where booleans are 00 and 01. */
function integerLine(text: string): number | bigint | boolean {
  if (text === '00' || text === '01') return text === '01';
  if (!/^-?\d{1,40}$/.test(text)) throw new Error(`'${text.slice(0, 40)}' is not an integer`);
  return asNumber(BigInt(text));
}

/** An integer of bytes in two's complement, the lowest first. */
function integer(bytes: Buffer): number | bigint {
  if (bytes.length === 0) return 0;
  return asNumber(BigInt.asIntN(8 * bytes.length, BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`)));
}

/** Integers that a number holds are numbers. */
function asNumber(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
