import { describe, expect, it } from 'vitest';
import type { ReportRow, TargetReport } from '../../src/experiments/reproduce/paper/targets.ts';
import { agreementMarkdown } from '../../src/experiments/reproduce/reports/agreement.ts';

const report = (target: TargetReport['target'], rows: ReportRow[]): TargetReport => ({
  target,
  title: target,
  markdown: '',
  rows,
  plots: [],
});
const row = (lambda: number, mean: number | null, paper: number, effect_verdict: string | null): ReportRow => ({
  dataset: 'moons',
  lambda,
  metric: 'recall',
  mean,
  paper,
  effect_verdict,
});

describe('agreementMarkdown', () => {
  it('counts each cell once and finds the largest distance', () => {
    const rows = [
      row(0, 0.99, 0.999, null),
      row(0.1, 0.98, 0.997, 'agrees'),
      row(0.2, 0.995, 0.991, 'opposite'),
      row(0.3, null, 0.992, null),
    ];
    const text = agreementMarkdown([report('table-1', rows.slice(0, 2)), report('table-3', rows)]);
    // Distances 0.009, 0.017 and 0.004: their mean is 0.01.
    const cells = text
      ?.split('\n')
      .at(-1)
      ?.split('|')
      .map((cell) => cell.trim());
    expect(cells?.slice(1, -1)).toEqual(['Recall', '1', '1', '0', '0', '0.0100', '−0.0170 (moons, λ = 0.1)']);
  });

  it('is not there without figures to compare', () => {
    expect(agreementMarkdown([report('table-1', [row(0, 1, 1, null), row(0.1, 1, 1, null)])])).toBeUndefined();
    expect(agreementMarkdown([report('figure-1', [row(0, 1, 1, null)]), report('table-6', [])])).toBeUndefined();
  });
});
