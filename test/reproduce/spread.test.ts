import { describe, expect, it } from 'vitest';
import { effectOf, effectText, verdictSummary } from '../../src/reproduce/reports/effect.ts';
import { spreadOf, spreadText } from '../../src/reproduce/reports/spread.ts';

const runs = (...values: number[]) => values.map((value, seed) => ({ seed, value }));

describe('spreadOf', () => {
  it('is the mean and the sample standard deviation', () => {
    // Deviations from 4 are -2, 0 and 2: (4 + 0 + 4) / 2 = 4.
    expect(spreadOf([2, 4, 6])).toEqual({ runs: 3, mean: 4, std: 2 });
    // The textbook set 2 4 4 4 5 5 7 9: mean 5, sum of squares 32, so sqrt(32 / 7).
    expect(spreadOf([2, 4, 4, 4, 5, 5, 7, 9])?.std).toBeCloseTo(2.1380899, 6);
  });

  it('has no deviation for one run, and is nothing for none', () => {
    expect(spreadOf([0.5])).toEqual({ runs: 1, mean: 0.5, std: undefined });
    expect(spreadOf([])).toBeUndefined();
    expect([spreadText(spreadOf([0.5])), spreadText(spreadOf([])), spreadText(spreadOf([2, 4, 6]), 1)]).toEqual([
      '0.5000',
      '–',
      '4.0 ± 2.0',
    ]);
  });
});

describe('effectOf', () => {
  it('takes differences seed by seed', () => {
    // Far apart between seeds, but +0.01, +0.02 and +0.03 within each: mean 0.02, deviation 0.01.
    const effect = effectOf(runs(0.1, 0.5, 0.9), runs(0.11, 0.52, 0.93), [0.9, 0.982]);
    expect(effect?.measured.mean).toBeCloseTo(0.02, 12);
    expect(effect?.measured.std).toBeCloseTo(0.01, 12);
    // The standard error is 0.01 / sqrt(3) = 0.0058, and 0.02 is more than twice that.
    expect(effect).toMatchObject({ paper: 0.082, verdict: 'agrees' });
    expect(effectOf(runs(0.1, 0.5, 0.9), runs(0.11, 0.52, 0.93), [0.982, 0.9])?.verdict).toBe('opposite');
  });

  it('leaves open what is within two standard errors, or of one run', () => {
    // Differences 0.01, 0.00, 0.02: mean 0.01, deviation 0.01, two standard errors 0.0115.
    expect(effectOf(runs(0, 0, 0), runs(0.01, 0, 0.02), [0, 1])?.verdict).toBe('unclear');
    expect(effectOf(runs(0), runs(1), [0, 1])?.verdict).toBe('unclear');
  });

  it('knows where the paper shows no effect or has no figure, and where no seed has both', () => {
    expect(effectOf(runs(0, 0), runs(1, 1), [0.989, 0.989])?.verdict).toBe('none in the paper');
    expect(effectOf(runs(0, 0), runs(1, 1))?.verdict).toBeUndefined();
    expect(effectOf([{ seed: 0, value: 1 }], [{ seed: 1, value: 2 }])).toBeUndefined();
  });

  it('is written with sign, spread and verdict', () => {
    const agreeing = effectOf(runs(0.1, 0.5), runs(0.11, 0.51), [0.9, 0.982]);
    expect(effectText(agreeing)).toBe('+0.0100 ± 0.0000 (+0.082): agrees');
    expect(effectText(effectOf(runs(1), runs(0.5), [1, 0.5]))).toBe('−0.5000 (−0.500): unclear');
    expect(verdictSummary('Moons', [agreeing, undefined, agreeing])).toMatch(/of 2 effects, 2 have/);
  });
});
