import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { GENERATED_FILE, type Job, jobName, readResult, writeJob } from '../../src/experiments/jobs/job.ts';
import { runJob } from '../../src/experiments/jobs/job-process.ts';
import { jobRuns, unfinishedJobs } from '../../src/experiments/jobs/run-jobs.ts';
import { comparedWithBase, drawnWithLambda, drawnWithScale, withLambda } from '../../src/experiments/sweep/jobs.ts';
import { minimiserScale } from '../../src/losses/minimiser.ts';
import { limitThreads } from '../../src/threads/threads.ts';
import { imageJob, pointJob, undisturbed, writeSquares } from './tiny-jobs.ts';

vi.setConfig({ testTimeout: 60_000 });
let root: string;
beforeAll(() => {
  root = mkdtempSync(path.join(tmpdir(), 'iso-derived-jobs-'));
  vi.stubEnv('XDG_CACHE_HOME', path.join(root, 'cache'));
  limitThreads(1);
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true, force: true });
});

async function finished<Kind extends Job>(job: Kind) {
  const folder = path.join(root, jobName(job));
  await mkdir(folder, { recursive: true });
  await writeJob(folder, job);
  await runJob(job, folder, undisturbed());
  const result = await readResult(folder);
  if (result?.job.kind !== job.kind) throw new Error(`${jobName(job)} has no result of its kind`);
  return { folder, result };
}

describe('jobs that use the model of another job', () => {
  it('draw from the same noise, with the factor of a weight or one that is given', async () => {
    const base = pointJob({ lambda: 0 });
    const trained = await finished(base);
    const plain = await finished(drawnWithScale(base, 1));
    const points = (folder: string) => readFileSync(path.join(folder, GENERATED_FILE)).toString('base64');
    expect(points(plain.folder)).toBe(points(trained.folder));
    expect(plain.result).toMatchObject({ noise_scale: 1, metrics: Object(trained.result).metrics });

    const scaled = await finished(drawnWithLambda(base, 0.5));
    const { isotropy, noise_scale } = Object(scaled.result);
    expect(noise_scale).toBe(minimiserScale(0.5, isotropy));
    expect(points(scaled.folder)).not.toBe(points(trained.folder));
  });

  it('compare the noise of two models by timestep', async () => {
    const base = pointJob({ lambda: 0 });
    await finished(withLambda(base, 0.7));
    const { result } = await finished(comparedWithBase(base, 0.7));
    const { ratios, isotropy } = Object(result);
    expect(ratios.map(({ timestep }: { timestep: number }) => timestep)).toEqual(
      Array.from({ length: 20 }, (_, t) => t),
    );
    // A few steps of training from the same weights: nearly the same model, and not quite.
    for (const { correlation } of ratios) {
      expect(correlation).toBeGreaterThan(0.9);
      expect(correlation).toBeLessThan(1);
    }
    expect(isotropy.model).not.toBe(isotropy.base);
  });

  it('do both for images', async () => {
    const source = path.join(root, 'squares');
    await writeSquares(source);
    const base = imageJob({ lambda: 0, name: 'squares', source, epochs: 1, logits_extractor: null });
    const trained = await finished(base);
    const drawn = await finished(drawnWithScale(base, 1));
    expect(Object(drawn.result).metrics).toEqual(Object(trained.result).metrics);
    await finished(withLambda(base, 0.7));
    const { result } = await finished(comparedWithBase(base, 0.7));
    expect(Object(result).ratios).toHaveLength(20);
  });

  it('say what is missing where the other job has not run', async () => {
    const draw = drawnWithLambda(pointJob({ lambda: 0, seed: 99 }), 0.1);
    await expect(finished(draw)).rejects.toThrow(/moons-lambda-0-seed-99.*pipeline/);
  });

  it('are refused where the model inside them has other settings', async () => {
    const run = (epochs: number) => jobRuns(root, [drawnWithScale(pointJob({ lambda: 0, seed: 4, epochs }), 1.1)]);
    for (const { folder, job } of run(2)) {
      await mkdir(folder, { recursive: true });
      await writeJob(folder, job);
    }
    expect(await unfinishedJobs(run(2))).toHaveLength(1);
    await expect(unfinishedJobs(run(3))).rejects.toThrow(/model\.epochs 2 there, 3 here/);
  });
});
