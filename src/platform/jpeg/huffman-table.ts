import type { HuffmanCode } from './header.ts';

/** Bits of the scan that the first part of a table is looked up by. */
const LOOKUP_BITS = 10;
const LOOKUPS = 2 ** LOOKUP_BITS;
/** Two words for each longer length of codes, and 4 that nothing uses. */
const SYMBOLS_AT = LOOKUPS + 16;
export const TABLE_WORDS = SYMBOLS_AT + 256;

/** Beyond the last coefficient of a block, where no run leads. */
const END_OF_BLOCK = 128;
/** The value is not in the entry, but follows the code. */
const OPEN = 128;

/**
 * The table that kernels.wat decodes with. An entry is found by the next 10 bits. It has, from the lowest: 8 bits for the
 * length of a code and its value, 8 bits for the way to the next coefficient, 16 bits for the value. An entry with `OPEN`
 * has the length of the code alone, or 0 for a code of more than 10 bits, and the size of the value in place of the value.
 * For codes of 11 to 16 bits there follow: the least 16 bits that begin no such or shorter code, and the place of the
 * symbol less that code; then the entries of all symbols, in order.
 */
export function huffmanTable({ counts, symbols }: HuffmanCode, isDc: boolean): Int32Array {
  const table = new Int32Array(TABLE_WORDS).fill(OPEN);
  let code = 0;
  let symbol = 0;
  for (let length = 1; length <= 16; length++, code <<= 1) {
    const longer = LOOKUPS + 2 * (length - LOOKUP_BITS - 1);
    if (length > LOOKUP_BITS) table[longer + 1] = symbol - code;
    for (const end = symbol + (counts[length - 1] as number); symbol < end; symbol++, code++) {
      const entry = openEntry(symbols[symbol] as number, isDc);
      table[SYMBOLS_AT + symbol] = entry;
      if (length <= LOOKUP_BITS) fillLookups(table, code, length, entry);
    }
    if (length > LOOKUP_BITS) table[longer] = code << (16 - length);
  }
  return table;
}

function openEntry(symbol: number, isDc: boolean): number {
  const [run, size] = isDc ? [0, symbol] : [symbol >> 4, symbol & 15];
  const hasCoefficients = size > 0 || run === 15;
  const advance = isDc ? 0 : hasCoefficients ? run + 1 : END_OF_BLOCK;
  return OPEN | (advance << 8) | (size << 16);
}

/** The entries of all bits that begin with a code. */
function fillLookups(table: Int32Array, code: number, length: number, entry: number): void {
  const spare = LOOKUP_BITS - length;
  const advance = entry & 0xff00;
  const size = entry >> 16;
  for (let rest = 0; rest < 1 << spare; rest++) {
    const bits = size > 0 ? rest >> (spare - size) : 0;
    // Values that begin with a 0 are negative.
    const value = size > 0 && bits >> (size - 1) === 0 ? bits + 1 - (1 << size) : bits;
    table[(code << spare) | rest] = size > spare ? entry | length : (length + size) | advance | (value << 16);
  }
}
