import { describe, expect, it } from 'vitest';
import { isAbove, markdown, type Outcome, shown } from '../../scripts/gpu-check/report.ts';
import type { Case, Section } from '../../scripts/gpu-check/section.ts';

const given: Case = {
  section: 'steps',
  device: 'cuda',
  precision: 'TF32',
  batch: 128,
  quick: false,
  root: '/root/',
  output: 'out',
};
const sections: Record<string, Section> = {
  steps: { title: 'Training steps', note: 'How.', cases: () => [], run: async () => [] },
  others: { title: 'Others', note: 'Not run.', cases: () => [], run: async () => [] },
};
const machine = { card: 'NVIDIA X', cpu: 'CPU, 2 cores', node: 'v20', date: '2026-11-26T00:00:00Z', quick: false };

describe('the report of gpu-check', () => {
  it('has a table for each section that ran, with failures and values above their limit', () => {
    const outcomes: Outcome[] = [
      { given, seconds: 1, rows: [{ what: 'a step, ms', value: 92.93 }] },
      { given: { ...given, batch: 64 }, seconds: 1, rows: [{ what: 'error (the worst: w)', value: 0.5, limit: 0.1 }] },
      { given: { ...given, device: 'webgpu' }, seconds: 1, rows: [], failure: 'Error: a | b' },
    ];
    expect(markdown(machine, outcomes, sections)).toBe(
      `${[
        '# GPU check',
        'NVIDIA X; CPU, 2 cores; Node.js v20; 2026-11-26.',
        '## Training steps',
        'How.',
        [
          '| device | precision | batch | a step, ms | error |',
          '| --- | --- | --- | --- | --- |',
          '| cuda | TF32 | 128 | 92.9 |  |',
          '| cuda | TF32 | 64 |  | **0.500** (limit 0.1) |',
          '| webgpu | TF32 | 128 | failed: Error: a \\| b |  |',
        ].join('\n'),
      ].join('\n\n')}\n`,
    );
  });

  it('takes a value that is no number for one above its limit', () => {
    expect(isAbove({ what: 'x', value: Number.NaN, limit: 1 })).toBe(true);
    expect(isAbove({ what: 'x', value: 1, limit: 1 })).toBe(false);
    expect(isAbove({ what: 'x', value: 5 })).toBe(false);
  });

  it('shows three digits', () => {
    expect([0.000123, 0.5, 92.93, 12345].map(shown)).toEqual(['1.2e-4', '0.500', '92.9', '12345']);
  });
});
