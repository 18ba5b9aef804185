import { GraphError } from '../../../errors.ts';
import type { Value } from '../../graph.ts';
import { matmul } from '../../ops/matmul.ts';
import { reduceSum } from '../../ops/reduce.ts';
import { reshape, transpose } from '../../ops/shape.ts';
import { textAttribute } from '../../registry.ts';
import { fixedShape, formatShape } from '../../types.ts';
import type { LoweringRule } from './operand.ts';

/** A tensor whose axes have letters. */
interface Lettered {
  readonly value: Value;
  readonly letters: string;
}

/** Einsum of any number of operands as sums, permutations and one product of matrices for each pair. */
export const einsum: LoweringRule = (context) => {
  const equation = textAttribute(context.attributes, 'equation', '').replaceAll(' ', '');
  const values = context.inputs.flatMap((operand) => (operand ? [context.materialise(operand)] : []));
  const [left = '', right] = equation.split('->');
  const terms = left.split(',');
  const fits = terms.every(
    (term, i) =>
      /^[a-zA-Z]*$/.test(term) && new Set(term).size === term.length && values[i]?.shape.length === term.length,
  );
  const all = [...left.replaceAll(',', '')];
  const output =
    right ??
    all
      .filter((letter) => all.indexOf(letter) === all.lastIndexOf(letter))
      .sort()
      .join('');
  const known = [...output].every((letter) => all.includes(letter)) && new Set(output).size === output.length;
  if (!fits || !known || terms.length !== values.length || equation.includes('.'))
    throw new GraphError(
      `${context.where}: the equation '${equation}' for ${values.map(({ shape }) => formatShape(shape)).join(', ')} is not supported: each operand needs one letter an axis, each once`,
    );
  const operands = terms.map((letters, i): Lettered => ({ letters, value: values[i] as Value }));
  let result = operands[0] as Lettered;
  operands.slice(1).forEach((next, i) => {
    const later = terms.slice(i + 2).join('') + output;
    result = product(result, next, (letter) => later.includes(letter));
  });
  const summed = sumOver(result, (letter) => !output.includes(letter));
  return [permuted(summed, output)];
};

/** @param needed whether a letter is still wanted after this product. */
function product(a: Lettered, b: Lettered, needed: (letter: string) => boolean): Lettered {
  const left = sumOver(a, (letter) => !needed(letter) && !b.letters.includes(letter));
  const right = sumOver(b, (letter) => !needed(letter) && !a.letters.includes(letter));
  const shared = [...left.letters].filter((letter) => right.letters.includes(letter));
  const batch = shared.filter(needed).join('');
  const inner = shared.filter((letter) => !needed(letter)).join('');
  const rows = [...left.letters].filter((letter) => !shared.includes(letter)).join('');
  const columns = [...right.letters].filter((letter) => !shared.includes(letter)).join('');
  const size = (letters: string) => [...letters].reduce((total, letter) => total * lengthOf(letter, left, right), 1);
  const lengths = (letters: string) => [...letters].map((letter) => lengthOf(letter, left, right));
  // An axis that is 1 in one operand is repeated there by the product's own broadcasting only as a batch axis.
  const leftMatrix = reshape(permuted(left, batch + rows + inner), [size(batch), size(rows), size(inner)]);
  const rightMatrix = reshape(permuted(right, batch + inner + columns), [size(batch), size(inner), size(columns)]);
  const letters = batch + rows + columns;
  return { letters, value: reshape(matmul(leftMatrix, rightMatrix), lengths(letters)) };
}

function lengthOf(letter: string, ...operands: Lettered[]): number {
  const lengths = operands.flatMap(({ letters, value }) => {
    const axis = letters.indexOf(letter);
    return axis < 0 ? [] : fixedShape(value.shape.slice(axis, axis + 1));
  });
  const [length = 1] = lengths;
  if (lengths.every((other) => other === length)) return length;
  throw new GraphError(`op 'Einsum': the axis '${letter}' has the lengths ${lengths.join(' and ')}`);
}

function sumOver({ value, letters }: Lettered, dropped: (letter: string) => boolean): Lettered {
  const axes = [...letters].flatMap((letter, axis) => (dropped(letter) ? [axis] : []));
  if (axes.length === 0) return { value, letters };
  return { value: reduceSum(value, axes), letters: [...letters].filter((letter) => !dropped(letter)).join('') };
}

function permuted({ value, letters }: Lettered, order: string): Value {
  if (letters === order) return value;
  return transpose(
    value,
    [...order].map((letter) => letters.indexOf(letter)),
  );
}
