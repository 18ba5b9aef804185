import type { RandomStream } from '../../../src/random/random-stream.ts';
import { type Mutation, pick } from './mutation.ts';

/* Changes of text: JSON, YAML, tables, the headers of safetensors and NumPy files. */

const TOKENS = [
  '0',
  '-1',
  '-0',
  '1',
  '1e99',
  '-1e999',
  '0x10',
  '1.5',
  '2147483648',
  '9007199254740993',
  '1'.repeat(400),
]
  .concat([
    'null',
    'true',
    'NaN',
    'Infinity',
    '""',
    '"a"',
    '[]',
    '{}',
    '[[]]',
    '{"a":1}',
    '~',
    '*a',
    '&a',
    '!!js/function',
  ])
  .concat([
    '{',
    '}',
    '[',
    ']',
    ',',
    ';',
    ':',
    '"',
    "'",
    '\\',
    '\n',
    '\r',
    '\t',
    ' ',
    '#',
    '\0',
    '\ufeff',
    '\ud800',
    'é',
    '- ',
  ])
  .concat([
    '__proto__',
    'constructor',
    '../..',
    '/etc/passwd',
    'a'.repeat(5000),
    '['.repeat(3000),
    '{"a":'.repeat(500),
  ]);

/** One word, number or mark of a text, replaced, removed or doubled. */
export const changeToken: Mutation = (bytes, stream) => {
  const text = Buffer.from(bytes).toString('latin1');
  const tokens = [...text.matchAll(/[\w.+-]+|[^\w\s]|\s+/g)];
  if (tokens.length === 0) return undefined;
  const token = pick(stream, tokens);
  const replaced = pick(stream, [
    pick(stream, TOKENS),
    pick(stream, TOKENS),
    '',
    token[0] + token[0],
    pick(stream, tokens)[0],
  ]);
  const piece = Buffer.from(replaced);
  const end = token.index + token[0].length;
  return Buffer.concat([bytes.subarray(0, token.index), piece, bytes.subarray(end)]);
};

/** A line removed, doubled or moved. */
const changeLine: Mutation = (bytes, stream) => {
  const lines = Buffer.from(bytes).toString('latin1').split('\n');
  const line = pick(stream, lines);
  const at = stream.integer(lines.length);
  const copies = stream.integer(32) === 0 ? 2000 : 1;
  lines.splice(at, stream.integer(2), ...Array<string>(stream.integer(2) * copies).fill(line));
  return Buffer.from(lines.join('\n'), 'latin1');
};

export const textMutations: readonly Mutation[] = [changeToken, changeToken, changeToken, changeLine];

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

const VALUES: readonly Json[] = [
  ...[null, true, false, 0, -1, 1, 2, 3, 7, 0.5, -0.5, 1e-300, 1e300, 1e9, 2 ** 31, 2 ** 32, 2 ** 53],
  ...['', 'a', 'relu', '__proto__', '../x', 'a'.repeat(300), [], [1], [1, 1, 1, 1, 1], [-1], [1e9, 1e9], [null], [[]]],
  ...[{}, { a: 1 }, { _class_name: 'DDPMScheduler' }, Array<number>(2000).fill(1), Array<null>(300).fill(null)],
];

/** One value of a JSON file replaced, removed, or put somewhere else; keys renamed and added. */
export const changeJson: Mutation = (bytes, stream) => {
  const root = parsed(bytes);
  if (root === undefined) return undefined;
  const holders: (Json[] | { [key: string]: Json })[] = [];
  const visit = (value: Json) => {
    if (typeof value !== 'object' || value === null) return;
    holders.push(value);
    for (const inner of Object.values(value)) visit(inner);
  };
  visit(root);
  if (holders.length === 0) return undefined;
  const values = holders.flatMap((holder): Json[] => Object.values(holder));
  // A copy: the value of another place must not be the same object there.
  const anyValue = () => structuredClone(pick(stream, values.length > 0 && stream.integer(3) === 0 ? values : VALUES));
  const holder = pick(stream, holders);
  if (Array.isArray(holder))
    holder.splice(stream.integer(holder.length + 1), stream.integer(2), ...someOf(stream, anyValue));
  else changeObject(holder, stream, anyValue);
  return Buffer.from(JSON.stringify(root));
};

function someOf(stream: RandomStream, anyValue: () => Json): Json[] {
  return Array.from({ length: stream.integer(3) }, anyValue);
}

function changeObject(holder: { [key: string]: Json }, stream: RandomStream, anyValue: () => Json): void {
  const keys = Object.keys(holder);
  const key = keys.length === 0 ? 'a' : pick(stream, keys);
  const kind = stream.integer(8);
  if (kind === 0) delete holder[key];
  else if (kind === 1)
    holder[pick(stream, ['new_key', '_private', '__proto__', 'toString', '', `${key}s`])] = anyValue();
  else if (kind === 2) holder[pick(stream, keys.length === 0 ? ['b'] : keys)] = structuredClone(holder[key] ?? null);
  else holder[key] = typeof holder[key] === 'number' && kind < 5 ? nearNumber(holder[key], stream) : anyValue();
}

function nearNumber(value: number, stream: RandomStream): number {
  return pick(stream, [value + 1, value - 1, -value, value * 2, value / 2, value * 1000, value + 0.5]);
}

function parsed(bytes: Uint8Array): Json | undefined {
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    return undefined;
  }
}
