import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { changesOf, summaryLines, verdictOf } from '../../../scripts/results-images/changes.ts';
import { LAMBDAS } from '../../../scripts/results-images/study.ts';

/** scipy 1.7: `t.interval(0.95, 2, d.mean(), sem(d))` of the differences. */
const CASES = [
  { differences: [0.012, -0.003, 0.02], low: -0.019338588777271792, high: 0.03867192211060513 },
  { differences: [0.5, 0.9, 0.7], low: 0.2031724576312493, high: 1.1968275423687504 },
];

/** The models of three seeds: `differences` lie between λ = 0.05 and λ = 0 in every metric, and λ = 0.1 changes nothing. */
function modelsWith(differences: readonly number[]) {
  return differences.flatMap((difference, seed) =>
    LAMBDAS.map((lambda) => {
      const value = seed / 8 + (lambda === 0.05 ? difference : 0);
      const prdc = { precision: value, recall: value, density: value, coverage: value };
      return { lambda, seed, isotropy: value, metrics: { fid: value, kid_mean: value, ...prdc } };
    }),
  );
}

describe('the changes of results-images', () => {
  it.each(CASES)('have the interval of scipy over the pairs $differences', ({ differences, low, high }) => {
    const changes = changesOf(modelsWith(differences)).filter(({ lambda }) => lambda === 0.05);
    expect(changes).toHaveLength(7);
    for (const { interval } of changes) {
      expect(interval?.[0]).toBeCloseTo(low, 8);
      expect(interval?.[1]).toBeCloseTo(high, 8);
    }
  });

  it('are clear where the interval leaves out 0, and better by the direction of the metric', () => {
    const verdicts = (differences: readonly number[]) =>
      changesOf(modelsWith(differences)).map((change) => `${change.lambda} ${change.metric} ${verdictOf(change)}`);
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
    const models = modelsWith([0.5, 0.9, 0.7]).filter(({ lambda, seed }) => seed > 0 || lambda !== 0.05);
    expect(changesOf(models).map(({ differences }) => differences.length)).toEqual([
      ...Array(7).fill(2),
      ...Array(7).fill(3),
    ]);
    const all = modelsWith([0.5, 0.9, 0.7]);
    expect(summaryLines('Set', all, changesOf(all))).toEqual([
      '- **Set, λ = 0.05**: Precision better, +0.700 [+0.203, +1.197]; Recall better, +0.700 [+0.203, +1.197]; Density better, +0.700 [+0.203, +1.197]; Coverage better, +0.700 [+0.203, +1.197]; FID worse, +0.700 [+0.203, +1.197]; KID worse, +0.700 [+0.203, +1.197]; isotropy higher, +0.700 [+0.203, +1.197].',
      '- **Set, λ = 0.1**: unclear: FID, KID, Precision, Recall, Density, Coverage, isotropy.',
    ]);
    const one = all.filter(({ seed }) => seed === 0);
    expect(summaryLines('Set', one, changesOf(one))[0]).toBe(
      '- **Set, λ = 0.05**: one seed so far, so that no interval can be given.',
    );
  });
});

/** scipy 1.7: `t.ppf(0.975, n - 1)` for n seeds. */
const QUANTILES = new Map([
  [2, 12.706204736432095],
  [3, 4.302652729911275],
  [4, 3.182446305284263],
  [5, 2.7764451051977987],
]);

interface Model {
  readonly lambda: number;
  readonly seed: number;
  readonly isotropy: number;
  readonly metrics: Readonly<Record<string, number>>;
}

interface Change {
  readonly lambda: number;
  readonly metric: string;
  readonly differences: readonly number[];
  readonly low: number | null;
  readonly high: number | null;
  readonly verdict: string;
}

describe('docs/results-images.json', () => {
  const { sets } = JSON.parse(readFileSync('docs/results-images.json', 'utf8')) as {
    sets: { name: string; models: Model[]; changes: Change[] }[];
  };

  it('has differences of the values of its models, with the intervals of scipy', () => {
    let intervals = 0;
    for (const { models, changes } of sets)
      for (const { lambda, metric, differences, low, high, verdict } of changes) {
        const value = (weight: number, seed: number) => {
          const model = models.find((one) => one.lambda === weight && one.seed === seed);
          return (metric === 'isotropy' ? model?.isotropy : model?.metrics[metric]) ?? Number.NaN;
        };
        expect(differences).toEqual(differences.map((_, seed) => value(lambda, seed) - value(0, seed)));
        const n = differences.length;
        const mean = differences.reduce((sum, one) => sum + one, 0) / n;
        const std = Math.sqrt(differences.reduce((sum, one) => sum + (one - mean) ** 2, 0) / (n - 1));
        const half = ((QUANTILES.get(n) ?? Number.NaN) * std) / Math.sqrt(n);
        if (low === null || high === null) {
          expect([n, verdict]).toEqual([1, 'one pair']);
          continue;
        }
        intervals++;
        expect(low).toBeCloseTo(mean - half, 6);
        expect(high).toBeCloseTo(mean + half, 6);
        expect(verdict === 'unclear').toBe(low <= 0 && high >= 0);
      }
    expect(intervals).toBe(28);
  });
});
