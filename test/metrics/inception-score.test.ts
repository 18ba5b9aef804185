import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { InvalidArgumentError } from '../../src/errors.ts';
import { inceptionScore } from '../../src/metrics/inception-score.ts';

interface Fixture {
  shape: [number, number];
  splits: number;
  logits: number[];
  expected_mean: number;
  expected_std: number;
}

const fixture = JSON.parse(
  readFileSync(new URL('../fixtures/metrics/inception_score.json', import.meta.url), 'utf8'),
) as Fixture;
const logits = {
  data: Float32Array.from(fixture.logits),
  count: fixture.shape[0],
  dims: fixture.shape[1],
};

test('mean and spread of the reference', () => {
  const { mean, std = 0 } = inceptionScore(logits, { splits: fixture.splits });
  expect(Math.abs(mean / fixture.expected_mean - 1)).toBeLessThan(1e-6);
  expect(Math.abs(std / fixture.expected_std - 1)).toBeLessThan(1e-6);
  expect(inceptionScore(logits)).toEqual({ mean, std });
});

test('certain and evenly spread predictions score the number of classes, equal ones score 1', () => {
  const classes = 4;
  // Logits far enough apart that the softmax is 0 and 1 exactly, and large enough that exp overflows if not shifted.
  const certain = Float32Array.from({ length: 8 * classes }, (_, at) =>
    Math.floor(at / classes) % classes === at % classes ? 5000 : -5000,
  );
  const perfect = inceptionScore({ data: certain, count: 8, dims: classes }, { splits: 2 });
  expect(Math.abs(perfect.mean - classes)).toBeLessThan(1e-12);
  const same = inceptionScore({ data: new Float32Array(12).fill(3), count: 3, dims: classes }, { splits: 1 });
  expect(Math.abs(same.mean - 1)).toBeLessThan(1e-12);
});

test('every vector is in a split when the sizes do not divide', () => {
  const seven = { data: logits.data.slice(0, 7 * logits.dims), count: 7, dims: logits.dims };
  const changed = { ...seven, data: seven.data.slice() };
  changed.data[7 * logits.dims - 1] = 20;
  expect(inceptionScore(changed, { splits: 3 })).not.toEqual(inceptionScore(seven, { splits: 3 }));
});

test('bad input is refused', () => {
  const few = { data: new Float32Array(8), count: 4, dims: 2 };
  expect(() => inceptionScore(few)).toThrow(/4 vectors, fewer than splits 10/);
  expect(() => inceptionScore(few, { splits: 1.5 })).toThrow(InvalidArgumentError);
  expect(() => inceptionScore({ ...few, data: new Float32Array(8).fill(Number.NaN) }, { splits: 2 })).toThrow(/NaN/);
});
