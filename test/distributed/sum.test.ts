import { expect, it } from 'vitest';
import { broadcastText, gatherFloats, gatherTexts, SINGLE } from '../../src/distributed/communicator.ts';
import { addTree, sumOverRanks } from '../../src/distributed/sum.ts';
import { concatenated } from '../../src/graph/types.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { localGroup } from './local-group.ts';

const LENGTH = 1003;
const addends = (count: number) =>
  Array.from({ length: count }, (_, i) => new RandomStream(1, i).fillNormal(new Float32Array(LENGTH)));

function treeSum(vectors: readonly Float32Array[]): Float32Array {
  const parts = concatenated(vectors);
  addTree(parts, LENGTH, vectors.length);
  return parts.slice(0, LENGTH);
}

it('adds in the order of a tree', () => {
  const [a, b, c, d, e] = [2 ** 24, 1, 1, 1, -(2 ** 24)];
  const parts = Float32Array.of(a, b, c, d, e);
  addTree(parts, 1, 5);
  expect(parts[0]).toBe(Math.fround(Math.fround(Math.fround(a + b) + Math.fround(c + d)) + e));
  // One after the other gives 0, because 2^24 + 1 is no float32.
  expect(parts[0]).toBe(2);
});

// Buckets that divide the vector, that do not, and that are longer than it.
it.each([
  [1, 100],
  [2, 100],
  [3, 51],
  [4, LENGTH],
  [5, 2 ** 22],
])('%i ranks have the same sum, in buckets of %i', async (size, bucketValues) => {
  const vectors = addends(size);
  const expected = treeSum(vectors);
  await Promise.all(
    localGroup(size).map((communicator, rank) =>
      sumOverRanks(communicator, vectors[rank] as Float32Array, bucketValues),
    ),
  );
  for (const vector of vectors) expect(vector).toEqual(expected);
});

it('four addends have the same sum on four ranks, on two and on one', async () => {
  const four = addends(4);
  const expected = treeSum(four);
  const two = [0, 1].map((rank) => treeSum(addends(4).slice(2 * rank, 2 * rank + 2)));
  for (const vectors of [four, two])
    await Promise.all(
      localGroup(vectors.length).map((group, rank) => sumOverRanks(group, vectors[rank] as Float32Array)),
    );
  expect(four[3]).toEqual(expected);
  expect(two[1]).toEqual(expected);
});

it('texts of any length reach every rank', async () => {
  const texts = ['', 'naïve ∇', 'x'.repeat(1000)];
  const group = localGroup(3);
  for (const heard of await Promise.all(group.map((rank) => gatherTexts(rank, texts[rank.rank] ?? ''))))
    expect(heard).toEqual(texts);
  for (const heard of await Promise.all(group.map((rank) => broadcastText(rank, `from ${rank.rank}: ∇`))))
    expect(heard).toBe('from 0: ∇');
  expect(await gatherTexts(SINGLE, 'alone')).toEqual(['alone']);
  expect(await gatherFloats(SINGLE, Float32Array.of(1, 2))).toEqual(Float32Array.of(1, 2));
});
