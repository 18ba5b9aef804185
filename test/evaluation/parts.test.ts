import { truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { InvalidArgumentError, SafetensorsError } from '../../src/errors.ts';
import { evaluate, evaluateOnRanks, evaluateShare, mergeEvaluation } from '../../src/evaluation/evaluate.ts';
import type { EvaluateOptions } from '../../src/evaluation/options.ts';
import { EvaluationPartError } from '../../src/evaluation/parts/part.ts';
import { safetensorsChunks } from '../../src/files/safetensors.ts';
import { metrics } from '../../src/metrics/registry.ts';
import { RandomStream } from '../../src/random/random-stream.ts';
import { localGroup } from '../distributed/local-group.ts';
import { temporaryFolder } from '../pipelines/saved-pipeline.ts';
import { meanGap } from './own-things.ts';
import { numberedImages, tableExtractor, tableRows } from './table-images.ts';

const folder = await temporaryFolder();
const [REAL, FAKE] = [50, 40];
const normals = (stream: number, dims: number) =>
  tableRows([...new RandomStream(3, stream).fillNormal(new Float32Array((REAL + FAKE) * dims))], dims);

metrics.register('parts-gap', meanGap);

/** Every form of samples is needed, and the batches do not divide the sets. */
const options = (given: Partial<EvaluateOptions> = {}): EvaluateOptions => ({
  real: numberedImages('real', 0, REAL),
  fake: numberedImages('fake', REAL, FAKE),
  extractor: { ...tableExtractor(normals(0, 6)), caveat: 'made up' },
  logits_extractor: tableExtractor(normals(1, 4)),
  metrics: ['fid', 'kid', 'prdc', 'is', 'parts-gap'],
  batch_size: 3,
  seed: 5,
  cache_dir: path.join(folder, 'cache'),
  ...given,
});

const file = (name: string) => path.join(folder, `${name}.safetensors`);
async function shares(name: string, count: number, given: Partial<EvaluateOptions> = {}): Promise<string[]> {
  const files = Array.from({ length: count }, (_, i) => file(`${name}-${i + 1}`));
  for (const [i, one] of files.entries()) await evaluateShare(options(given), [i + 1, count], one);
  return files;
}

function expectSame(merged: Awaited<ReturnType<typeof evaluate>>, whole: typeof merged) {
  expect(Math.abs((merged.metrics.fid ?? 0) / (whole.metrics.fid ?? 0) - 1)).toBeLessThan(1e-10);
  const { mean_gap: gap = 1 } = whole.metrics;
  expect(Math.abs((merged.metrics.mean_gap ?? 1) / gap - 1)).toBeLessThan(1e-10);
  expect({ ...merged, metrics: { ...merged.metrics, fid: 0, mean_gap: 0 } }).toEqual({
    ...whole,
    metrics: { ...whole.metrics, fid: 0, mean_gap: 0 },
  });
}

describe('shares of an evaluation', () => {
  it.each([1, 2, 3])('of %i processes are merged to its report', async (count) => {
    const whole = await evaluate(options({ cache_dir: path.join(folder, 'whole') }));
    expect(whole.warnings).toEqual(['made up']);
    const files = await shares(`of-${count}`, count);
    expectSame(await mergeEvaluation(files.reverse()), whole);
  });

  it('take what they need alone, once', async () => {
    const extractor = tableExtractor(normals(0, 6));
    const given = { extractor, metrics: ['fid'] };
    await evaluateShare(options(given), [1, 2], file('alone-1'));
    const half = extractor.calls;
    await evaluateShare(options(given), [2, 2], file('alone-2'));
    // Noise images probe the extractor, of which no feature is kept.
    expect([half, extractor.calls]).toEqual([24 + 21 + 2, 50 + 40 + 4]);
    expect((await mergeEvaluation([file('alone-1'), file('alone-2')])).metrics.fid).toBeGreaterThan(0);
  });

  it('of few images leave them to the first process', async () => {
    const few = { real: numberedImages('real', 0, 8), fake: numberedImages('fake', REAL, 40), metrics: ['fid', 'kid'] };
    expectSame(await mergeEvaluation(await shares('few', 3, few)), await evaluate(options(few)));
  });

  it('take statistics as they are, from a file or the cache', async () => {
    const cache_dir = path.join(folder, 'filled');
    const whole = await evaluate(options({ metrics: ['fid'], cache_dir }));
    const first = file('cached-1');
    await evaluateShare(options({ metrics: ['fid'], cache_dir }), [1, 2], first);
    await evaluateShare(options({ metrics: ['fid'], cache_dir: path.join(folder, 'empty') }), [2, 2], file('cached-2'));
    expectSame(await mergeEvaluation([first, file('cached-2')]), whole);
  });

  it('are refused where one is missing, twice, damaged, or of something else', async () => {
    const [first = '', second = ''] = await shares('refused', 2, { metrics: ['fid'] });
    const [other = ''] = await shares('other', 2, { metrics: ['fid'], seed: 6 });
    const refused = (...files: string[]) => expect(mergeEvaluation(files)).rejects;
    await refused(first).toThrow('share 2/2 is missing: give the files of all 2');
    await refused(first, second, second).toThrow('3 shares are given, but there are only 2: give each once');
    await refused(other, second).toThrow(/different evaluations: they differ in seed\. Evaluate all with the same/);
    await refused().toThrow(EvaluationPartError);
    writeFileSync(file('weights'), Buffer.concat([...safetensorsChunks(new Map())]));
    await refused(file('weights')).toThrow(/weights.safetensors is not a share of an evaluation/);
    truncateSync(second, 900);
    await refused(first, second).toThrow(SafetensorsError);
    await refused(file('nowhere')).toThrow(/nowhere.safetensors does not exist/);
    await expect(evaluateShare(options(), [3, 2], file('x'))).rejects.toThrow('the share is 3/2, but must be i/n');
    const points = evaluateShare({ real: 'moons', fake: 'moons', metrics: ['prdc'] }, [1, 2], file('x'));
    await expect(points).rejects.toThrow('a share is of images, but these samples are points');
    const sheets = { metrics: ['prdc' as const], contact_sheets: path.join(folder, 'sheets') };
    await expect(evaluateShare(options(sheets), [1, 2], file('x'))).rejects.toThrow(InvalidArgumentError);
  });
});

it('ranks share an evaluation, and the first has its report', async () => {
  const whole = await evaluate(options({ cache_dir: path.join(folder, 'ranks-whole') }));
  const found = await Promise.all(
    localGroup(3).map((rank) => evaluateOnRanks(options({ cache_dir: path.join(folder, `ranks-${rank.rank}`) }), rank)),
  );
  expect(found.slice(1)).toEqual([undefined, undefined]);
  if (found[0]) expectSame(found[0], whole);
  expect(found[0]).toBeDefined();
});
