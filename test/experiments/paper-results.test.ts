import { describe, expect, it } from 'vitest';
import {
  PAPER_IMAGES,
  PAPER_LAMBDAS,
  PAPER_POINTS,
  PRDC_METRICS,
  paperValue,
  TABLE_1_LAMBDAS,
} from '../../src/experiments/reproduce/paper/paper-results.ts';
import { POINT_SETS } from '../../src/experiments/reproduce/paper/targets.ts';

/** Table 1 of the paper: DDPM, and Iso-Diffusion with the weight of that table. */
const TABLE_1 = {
  'swiss-roll': {
    precision: [0.9, 0.982],
    recall: [0.998, 0.984],
    density: [0.83, 0.989],
    coverage: [0.895, 0.917],
  },
  moons: {
    precision: [0.987, 0.991],
    recall: [0.999, 0.997],
    density: [0.957, 0.979],
    coverage: [0.943, 0.938],
  },
  's-curve': {
    precision: [0.989, 0.992],
    recall: [0.996, 0.989],
    density: [0.978, 0.982],
    coverage: [0.938, 0.91],
  },
  '8-gaussians': {
    precision: [0.994, 0.997],
    recall: [0.997, 0.988],
    density: [0.983, 0.989],
    coverage: [0.932, 0.9],
  },
} as const;

describe('the published figures', () => {
  it('have a value for each λ, each a fraction', () => {
    for (const values of Object.values(PAPER_POINTS).flatMap((set) => Object.values(set))) {
      expect(values).toHaveLength(PAPER_LAMBDAS.length);
      for (const value of values) expect(value > 0.8 && value <= 1, String(value)).toBe(true);
    }
  });

  it('are the same in Table 1 as in Tables 2 to 5', () => {
    for (const dataset of POINT_SETS) {
      for (const metric of PRDC_METRICS) {
        const values = [0, TABLE_1_LAMBDAS[dataset]].map((lambda) => paperValue(dataset, lambda, metric));
        expect(values, `${dataset} ${metric}`).toEqual(TABLE_1[dataset][metric]);
      }
    }
    expect(paperValue('moons', 0.15, 'recall')).toBeUndefined();
  });

  it('show what the paper says of Iso-Diffusion: more precise and dense, less recall', () => {
    const pairs = [...Object.values(TABLE_1), ...Object.values(PAPER_IMAGES)];
    for (const { precision, recall, density } of pairs) {
      expect(precision[1]).toBeGreaterThan(precision[0]);
      expect(density[1]).toBeGreaterThan(density[0]);
      expect(recall[1]).toBeLessThan(recall[0]);
    }
  });
});
