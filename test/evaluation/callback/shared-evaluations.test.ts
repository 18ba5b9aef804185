import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import type { ShareFiles, SnapshotResult } from '../../../src/evaluation/callback/evaluation-process.ts';
import { SharedEvaluations } from '../../../src/evaluation/callback/shared-evaluations.ts';
import type { SnapshotEvaluator } from '../../../src/evaluation/callback/snapshot-evaluator.ts';
import type { Share } from '../../../src/evaluation/image-sources.ts';
import { localGroup } from '../../distributed/local-group.ts';
import { temporaryFolder } from '../../pipelines/saved-pipeline.ts';

const folder = await temporaryFolder();
const NOTHING: SnapshotResult = { files: [], report: undefined };

/** Ranks whose shares are texts. @param end ends the share of a rank; it may fail. */
function ranksOf(name: string, end: (index: number) => Promise<void>, merged: string[] = []) {
  return localGroup(3).map((rank) => {
    const evaluator: Pick<SnapshotEvaluator, 'share' | 'merge'> = {
      share: async (snapshot: string, [index, shares]: Share, { part, samples }: ShareFiles) => {
        await end(index);
        writeFileSync(part, `${path.basename(snapshot)} ${index}/${shares}`);
        // The last rank has no images to show.
        if (index < shares) writeFileSync(samples, `samples ${index}`);
        return NOTHING;
      },
      merge: async (files) => {
        for (const { part, samples } of files) merged.push(readFileSync(part, 'utf8'), readFileSync(samples, 'utf8'));
        return NOTHING;
      },
    };
    const own = path.join(folder, name, String(rank.rank));
    mkdirSync(own, { recursive: true });
    return new SharedEvaluations(rank, evaluator as SnapshotEvaluator, own);
  });
}

const begin = (shared: SharedEvaluations, save: () => Promise<void> = async () => undefined) =>
  shared.begin({ global_step: 3, epoch: 1 }, '/nowhere/snapshot', save);

it('are collected on the first rank, in the order of the ranks, when all have ended', async () => {
  let finish = () => {};
  const last = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const merged: string[] = [];
  const ranks = ranksOf('all', (index) => (index === 2 ? last : Promise.resolve()), merged);
  const all = <Result>(call: (shared: SharedEvaluations) => Promise<Result>) => Promise.all(ranks.map(call));
  expect(await all((shared) => shared.isReady())).toEqual([false, false, false]);
  await all((shared) => begin(shared));
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(await all((shared) => shared.isReady())).toEqual([false, false, false]);
  finish();
  const outcomes = await all((shared) => shared.collect());
  expect(outcomes.map((outcome) => [outcome?.step, outcome?.epoch])).toEqual(Array(3).fill([3, 1]));
  await outcomes[0]?.merge('image');
  expect(merged).toEqual(['snapshot 1/3', 'samples 1', 'snapshot 2/3', 'samples 2', 'snapshot 3/3', '']);
  expect(await all((shared) => shared.collect())).toEqual([undefined, undefined, undefined]);
});

it.each([
  [
    'its share',
    (index: number) => (index === 2 ? Promise.reject(new Error('no memory')) : Promise.resolve()),
    undefined,
  ],
  ['its snapshot', () => Promise.resolve(), 1],
])('fail on the first rank where one could not do %s', async (name, end, unsaved) => {
  const ranks = ranksOf(name, end);
  const save = async (rank: number) => {
    if (rank === unsaved) throw new Error('no memory');
  };
  await Promise.all(ranks.map((shared, rank) => begin(shared, () => save(rank))));
  const [first] = await Promise.all(ranks.map((shared) => shared.collect()));
  await expect(first?.merge('image')).rejects.toThrow('rank 1: no memory');
});
