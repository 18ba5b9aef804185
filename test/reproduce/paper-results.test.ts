import { describe, expect, it } from 'vitest';
import {
  PAPER_IMAGES,
  PAPER_LAMBDAS,
  PAPER_POINTS,
  PAPER_TABLE_1,
  PRDC_METRICS,
  paperValue,
} from '../../src/reproduce/paper/paper-results.ts';
import { POINT_SETS } from '../../src/reproduce/paper/targets.ts';

describe('the published figures', () => {
  it('have a value for each λ, each a fraction', () => {
    for (const values of Object.values(PAPER_POINTS).flatMap((set) => Object.values(set))) {
      expect(values).toHaveLength(PAPER_LAMBDAS.length);
      for (const value of values) expect(value > 0.8 && value <= 1, String(value)).toBe(true);
    }
  });

  it('are the same in Table 1 as in Tables 2 to 5', () => {
    for (const dataset of POINT_SETS) {
      const { lambda, ...metrics } = PAPER_TABLE_1[dataset];
      for (const metric of PRDC_METRICS)
        expect([paperValue(dataset, 0, metric), paperValue(dataset, lambda, metric)], `${dataset} ${metric}`).toEqual(
          metrics[metric],
        );
    }
    expect(paperValue('moons', 0.15, 'recall')).toBeUndefined();
  });

  it('show what the paper says of Iso-Diffusion: more precise and dense, less recall', () => {
    const pairs = [...POINT_SETS.map((set) => PAPER_TABLE_1[set]), ...Object.values(PAPER_IMAGES)];
    for (const { precision, recall, density } of pairs) {
      expect(precision[1]).toBeGreaterThan(precision[0]);
      expect(density[1]).toBeGreaterThan(density[0]);
      expect(recall[1]).toBeLessThan(recall[0]);
    }
  });
});
