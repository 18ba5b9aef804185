import { describe, expect, it } from 'vitest';
import { changesOf, summarySentences, verdictOf } from '../../../scripts/results-images/changes.ts';
import { LAMBDAS } from '../../../scripts/results-images/study.ts';

/** scipy 1.7: `t.interval(0.95, 2, d.mean(), sem(d))` of the differences. */
const CASES = [
  { differences: [0.012, -0.003, 0.02], low: -0.019338588777271792, high: 0.03867192211060513 },
  { differences: [0.5, 0.9, 0.7], low: 0.2031724576312493, high: 1.1968275423687504 },
];

/** The cells of three seeds: `differences` lie between λ = 0.05 and λ = 0 in every metric, and λ = 0.1 changes nothing. */
function cellsWith(differences: readonly number[]) {
  return differences.flatMap((difference, seed) =>
    LAMBDAS.map((lambda) => {
      const value = seed / 8 + (lambda === 0.05 ? difference : 0);
      const prdc = { precision: value, recall: value, density: value, coverage: value };
      return {
        record: { cell: { set: 'set', lambda, seed }, isotropy: value },
        measures: { metrics: { fid: value, kid_mean: value, ...prdc } },
      };
    }),
  );
}

describe('the changes of results-images', () => {
  it.each(CASES)('have the interval of scipy over the pairs $differences', ({ differences, low, high }) => {
    const changes = changesOf(cellsWith(differences)).filter(({ lambda }) => lambda === 0.05);
    expect(changes).toHaveLength(7);
    for (const { interval } of changes) {
      expect(interval?.[0]).toBeCloseTo(low, 8);
      expect(interval?.[1]).toBeCloseTo(high, 8);
    }
  });

  it('are clear where the interval leaves out 0, and better by the direction of the metric', () => {
    const verdicts = (differences: readonly number[]) =>
      changesOf(cellsWith(differences)).map((change) => `${change.lambda} ${change.metric} ${verdictOf(change)}`);
    expect(verdicts([0.5, 0.9, 0.7])).toEqual([
      '0.05 fid worse',
      '0.05 kid_mean worse',
      '0.05 precision better',
      '0.05 recall better',
      '0.05 density better',
      '0.05 coverage better',
      '0.05 isotropy higher',
      ...['fid', 'kid_mean', 'precision', 'recall', 'density', 'coverage', 'isotropy'].map(
        (name) => `0.1 ${name} unclear`,
      ),
    ]);
    expect(new Set(verdicts([0.012, -0.003, 0.02]).map((text) => text.split(' ').at(-1)))).toEqual(
      new Set(['unclear']),
    );
  });

  it('are told for each weight, and leave out seeds without a pair', () => {
    const cells = cellsWith([0.5, 0.9, 0.7]).filter(({ record: { cell } }) => cell.seed > 0 || cell.lambda !== 0.05);
    expect(changesOf(cells).map(({ differences }) => differences.length)).toEqual([
      ...Array(7).fill(2),
      ...Array(7).fill(3),
    ]);
    const changes = changesOf(cellsWith([0.5, 0.9, 0.7]));
    expect(summarySentences('Set', changes).join(' ')).toBe(
      '**Set**, against λ = 0. λ = 0.05: Precision, Recall, Density, Coverage better; FID, KID worse; isotropy higher. λ = 0.1: FID, KID, Precision, Recall, Density, Coverage, isotropy unclear.',
    );
  });
});
