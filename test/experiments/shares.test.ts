import { expect, it } from 'vitest';
import { isTraining } from '../../src/experiments/jobs/job.ts';
import { jobRuns, runsOfShare } from '../../src/experiments/jobs/run-jobs.ts';
import { pointJobs } from '../../src/experiments/reproduce/paper/targets.ts';
import { PRESET_SETTINGS } from '../../src/experiments/reproduce/presets.ts';

const { points } = PRESET_SETTINGS.smoke;
const runs = jobRuns('out', pointJobs(['table-1', 'section-4'], [0, 1, 2], { ...points, device: 'cpu' }));

it.each([1, 2, 3, 40])('%i shares divide the runs, and each has the models that its runs need', (shares) => {
  const parts = Array.from({ length: shares }, (_, i) => runsOfShare(runs, [i + 1, shares]));
  expect(new Set(parts.flat())).toEqual(new Set(runs));
  expect(parts.flat()).toHaveLength(runs.length);
  for (const part of parts) {
    const trained = part.flatMap(({ job }) => (isTraining(job) ? [JSON.stringify(job)] : []));
    for (const { job } of part) {
      if (isTraining(job)) continue;
      expect(trained).toContain(JSON.stringify(job.model));
      if (job.kind === 'compare') expect(trained).toContain(JSON.stringify(job.base));
    }
  }
  if (shares <= 3) for (const part of parts) expect(part.length).toBeGreaterThan(0);
});
