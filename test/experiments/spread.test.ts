import { describe, expect, it } from 'vitest';
import { effectOf, effectText, verdictSummary } from '../../src/experiments/reproduce/reports/effect.ts';
import { equivalenceOf, spreadOf, spreadText, studentQuantile } from '../../src/experiments/statistics/spread.ts';

const runs = (...values: number[]) => values.map((value, seed) => ({ seed, value }));

describe('studentQuantile', () => {
  // sqrt(df * (1 / betaincinv(df / 2, 0.5, 1 - p) - 1)) of scipy.special 1.10 for p = 0.5, 0.95 and 0.99; with one degree
  // of freedom tan(pi p / 2). scipy.stats.t.ppf itself is off by up to 4e-9 there.
  it.each([
    [1, 1.0000000000000007, 12.706204736174696, 63.656741162871526],
    [2, 0.8164965809277259, 4.302652729749462, 9.92484320091829],
    [3, 0.7648923284043451, 3.182446305283708, 5.840909309733356],
    [5, 0.726686843800423, 2.570581835636315, 4.032142983555228],
    [10, 0.6998120613124317, 2.2281388519862744, 3.169272672616951],
    [30, 0.6827556933212895, 2.0422724563012378, 2.7499956535672245],
    [100, 0.6769510430114696, 1.9839715185235556, 2.625890521438018],
    [1000, 0.6747351646071766, 1.9623390808263013, 2.580754698065864],
  ])('with %i degrees of freedom is that of scipy', (degreesOfFreedom, ...expected) => {
    [0.5, 0.95, 0.99].forEach((probability, i) => {
      const t = studentQuantile(probability, degreesOfFreedom);
      expect(Math.abs(t / (expected[i] ?? 0) - 1)).toBeLessThan(1e-12);
    });
  });
});

describe('spreadOf', () => {
  it('is the mean, the sample standard deviation and the half width of the interval', () => {
    // Deviations from 4 are -2, 0 and 2: (4 + 0 + 4) / 2 = 4. The half width is 4.3027 * 2 / sqrt(3).
    expect(spreadOf([2, 4, 6])).toMatchObject({ runs: 3, mean: 4, std: 2 });
    expect(spreadOf([2, 4, 6])?.half_width).toBeCloseTo(4.968275423, 8);
    // scipy.stats.t.interval(0.95, 1, loc=3, scale=sem([2, 4])) is (-9.706, 15.706).
    expect(spreadOf([2, 4])?.half_width).toBeCloseTo(12.706204736, 8);
    // The textbook set 2 4 4 4 5 5 7 9: mean 5, sum of squares 32, so sqrt(32 / 7).
    expect(spreadOf([2, 4, 4, 4, 5, 5, 7, 9])?.std).toBeCloseTo(2.1380899, 6);
  });

  it('has no deviation for one run, and is nothing for none', () => {
    expect(spreadOf([0.5])).toEqual({ runs: 1, mean: 0.5, std: undefined, half_width: undefined });
    expect(spreadOf([])).toBeUndefined();
    expect([spreadText(spreadOf([0.5])), spreadText(spreadOf([])), spreadText(spreadOf([2, 4, 6]), 1)]).toEqual([
      '0.5000',
      '–',
      '4.0 ± 5.0',
    ]);
  });
});

describe('equivalenceOf', () => {
  // p values of two one-sided tests by scipy.stats.ttest_1samp 1.10: 0.0398 for the margin 0.0018, 0.0506 for 0.0017.
  const near = [0.0012, -0.0004, 0.0009, 0.0021, -0.0002];

  it('holds where both one-sided tests have p below 5 %', () => {
    expect(equivalenceOf(near, 0.0018)).toBe('equivalent');
    expect(equivalenceOf(near, 0.0017)).toBe('not shown');
    expect(
      equivalenceOf(
        near.map((value) => -value),
        0.0018,
      ),
    ).toBe('equivalent');
  });

  it('says where the difference is beyond the margin, and nothing of one run', () => {
    // scipy: p = 0.0013 for a mean above 0.003.
    const far = [0.0042, 0.0038, 0.0045, 0.0036, 0.0041];
    expect(equivalenceOf(far, 0.003)).toBe('different');
    expect(
      equivalenceOf(
        far.map((value) => -value),
        0.003,
      ),
    ).toBe('different');
    expect(equivalenceOf([0], 0.003)).toBe('not shown');
  });
});

describe('effectOf', () => {
  it('takes differences seed by seed', () => {
    // Far apart between seeds, but +0.01, +0.02 and +0.03 within each: mean 0.02, deviation 0.01.
    const effect = effectOf(runs(0.1, 0.5, 0.9), runs(0.11, 0.52, 0.93), [0.9, 0.982]);
    expect(effect?.measured.mean).toBeCloseTo(0.02, 12);
    expect(effect?.measured.std).toBeCloseTo(0.01, 12);
    // The interval is 0.02 ± 4.3027 * 0.01 / sqrt(3), [-0.0048, 0.0448]: two standard errors are not enough.
    expect(effect).toMatchObject({ paper: 0.082, verdict: 'unclear' });
    expect(effectText(effect)).toBe('+0.0200 [−0.0048, +0.0448] (+0.082): unclear');
  });

  it('is clear where the interval leaves out 0', () => {
    // Differences 0.019, 0.02 and 0.021: 0.02 ± 4.3027 * 0.001 / sqrt(3) = 0.02 ± 0.0025.
    const differences = [runs(0.1, 0.5, 0.9), runs(0.119, 0.52, 0.921)] as const;
    expect(effectOf(...differences, [0.9, 0.982])?.verdict).toBe('agrees');
    expect(effectOf(...differences, [0.982, 0.9])?.verdict).toBe('opposite');
    expect(effectText(effectOf(...differences, [0.9, 0.982]))).toBe('+0.0200 [+0.0175, +0.0225] (+0.082): agrees');
    // Two runs need a ratio of 12.7 of the mean to its standard error: 0.02 ± 12.706 * 0.001.
    expect(effectOf(runs(0, 0), runs(0.019, 0.021), [0, 1])?.verdict).toBe('agrees');
    expect(effectOf(runs(0, 0), runs(0.018, 0.022), [0, 1])?.verdict).toBe('unclear');
    expect(effectOf(runs(0), runs(1), [0, 1])?.verdict).toBe('unclear');
  });

  it('pairs by seed, in any order, and leaves out seeds without a partner', () => {
    const withPenalty = [3, 0, 2, 1].map((seed) => ({ seed, value: seed + 0.02 + 0.001 * (seed - 1) }));
    const effect = effectOf(runs(0, 1, 2), withPenalty, [0, 1]);
    expect(effect?.measured.runs).toBe(3);
    expect(effectText(effect)).toBe('+0.0200 [+0.0175, +0.0225] (+1.000): agrees');
  });

  it('has no verdict where none is wanted', () => {
    const effect = effectOf(runs(0, 0), runs(0.02, 0.02), [0, 1], { verdicts: false });
    expect(effectText(effect)).toBe('+0.0200 [+0.0200, +0.0200] (+1.000)');
    expect(verdictSummary('Moons', [effect], { verdicts: false })).toMatch(/smoke preset trains too little/);
  });

  it('knows where the paper shows no effect or has no figure, and where no seed has both', () => {
    expect(effectOf(runs(0, 0), runs(1, 1), [0.989, 0.989])?.verdict).toBe('none in the paper');
    expect(effectOf(runs(0, 0), runs(1, 1))?.verdict).toBeUndefined();
    expect(effectOf([{ seed: 0, value: 1 }], [{ seed: 1, value: 2 }])).toBeUndefined();
  });

  it('is written with sign, interval and verdict', () => {
    const agreeing = effectOf(runs(0.1, 0.5), runs(0.11, 0.51), [0.9, 0.982]);
    expect(effectText(agreeing)).toBe('+0.0100 [+0.0100, +0.0100] (+0.082): agrees');
    expect(effectText(effectOf(runs(1), runs(0.5), [1, 0.5]))).toBe('−0.5000 (−0.500): unclear');
    expect(verdictSummary('Moons', [agreeing, undefined, agreeing])).toMatch(/of 2 effects, 2 have/);
  });
});
