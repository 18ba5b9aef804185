import { describe, expect, it } from 'vitest';
import { oneAhead } from '../../src/evaluation/decoded-images.ts';
import { nextTurn } from '../../src/platform/node/system.ts';

const settled = async () => {
  for (let turn = 0; turn < 10; turn++) await nextTurn();
};

/** Items 0, 1, ... with a record of what was begun; item `failing` fails. */
function recorded(count: number, failing = count) {
  const begun: number[] = [];
  let isEnded = false;
  async function* items() {
    try {
      for (let item = 0; item < count; item++) {
        begun.push(item);
        await nextTurn();
        if (item === failing) throw new Error(`item ${item} is damaged`);
        yield item;
      }
    } finally {
      isEnded = true;
    }
  }
  return { begun, isEnded: () => isEnded, items: oneAhead(items()) };
}

describe('oneAhead', () => {
  it('makes the next item, and no other, while one is used', async () => {
    const { begun, items } = recorded(5);
    const seen: number[] = [];
    for await (const item of items) {
      await settled();
      expect(begun.length).toBe(Math.min(item + 2, 5));
      seen.push(item);
    }
    expect(seen).toEqual([0, 1, 2, 3, 4]);
  });

  it('gives an error where its item would come', async () => {
    const { items } = recorded(5, 2);
    expect((await items.next()).value).toBe(0);
    await settled();
    expect((await items.next()).value).toBe(1);
    await settled();
    await expect(items.next()).rejects.toThrow('item 2 is damaged');
    expect((await items.next()).done).toBe(true);
  });

  it('ends the source where its user stops, though the next item failed', async () => {
    for (const failing of [1, 5]) {
      const { items, isEnded } = recorded(5, failing);
      for await (const _ of items) break;
      expect(isEnded()).toBe(true);
    }
    // An unhandled rejection fails the run.
    await settled();
  });
});
