import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, inject, it, vi } from 'vitest';
import { hasChromium } from '../../scripts/chromium.ts';
import { openPage } from '../../scripts/sweep/browser.ts';
import { ConfigError, InvalidArgumentError } from '../../src/errors.ts';
import { type JobResult, jobName, type PointJob } from '../../src/experiments/jobs/job.ts';
import { sweepAdvice } from '../../src/experiments/sweep/advice.ts';
import { sweepCells } from '../../src/experiments/sweep/cells.ts';
import { drawnWithLambda, withLambda } from '../../src/experiments/sweep/jobs.ts';
import { reportSweep, type SweepOptions, type SweepReport, sweep } from '../../src/index.ts';
import { pointJob } from './tiny-jobs.ts';

vi.setConfig({ testTimeout: 240_000 });
const root = mkdtempSync(path.join(tmpdir(), 'iso-sweep-'));
beforeAll(() => {
  vi.stubEnv('XDG_CACHE_HOME', path.join(root, 'cache'));
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true, force: true });
});

const tiny: Omit<SweepOptions, 'output_dir'> = {
  dataset: 'moons',
  lambda: [0.3],
  seeds: 2,
  n: 60,
  num_train_epochs: 2,
  per_device_train_batch_size: 32,
  num_inference_steps: 2,
  nearest_k: 3,
};
const names = ['sweep.html', 'sweep.md', 'sweep.json', 'sweep.csv'];
const bytes = (folder: string) => names.map((name) => readFileSync(path.join(root, folder, name), 'utf8'));

/**
 * The same sweep on the command line, killed once a run is finished; false if all runs were by then. scripts/sweep kills a
 * longer one twice.
 */
async function killed({ dataset, output_dir, lambda = [], ...settings }: SweepOptions): Promise<boolean> {
  const script = path.join(inject('build'), 'bin/iso-diffusion.js');
  const { seeds, n, num_train_epochs, per_device_train_batch_size, num_inference_steps, nearest_k } = settings;
  const flags = { dataset, lambda, seeds, n, num_train_epochs, per_device_train_batch_size, nearest_k };
  const args = Object.entries({ ...flags, steps: num_inference_steps, jobs: 1, output: output_dir }).flatMap(
    ([name, value]) => [`--${name.replaceAll('_', '-')}`, String(value)],
  );
  const child = spawn(process.execPath, [script, 'sweep', ...args], { stdio: 'ignore' });
  const isFinished = (name: string) => existsSync(path.join(output_dir, 'jobs', name, 'result.json'));
  const timer = setInterval(() => isFinished('moons-lambda-0-seed-0') && child.kill('SIGKILL'), 5);
  const [, signal] = await once(child, 'exit');
  clearInterval(timer);
  return signal === 'SIGKILL' && !readdirSync(path.join(output_dir, 'jobs')).every(isFinished);
}

describe('sweep', () => {
  let whole: SweepReport;
  beforeAll(async () => {
    whole = await sweep({ ...tiny, output_dir: path.join(root, 'whole') });
  }, 240_000);

  it('that was killed and stopped ends with the bytes of an unbroken one, and so do shares of it', async () => {
    expect(whole).toMatchObject({ num_train_epochs: 2, seeds: 2, unfinished: 0 });
    expect(whole.cells.map(({ lambda, place, runs }) => [lambda, place, runs])).toEqual([
      [0, 'training', 2],
      [0.3, 'training', 2],
      [0.3, 'sampling', 2],
    ]);

    const broken = { ...tiny, output_dir: path.join(root, 'broken') };
    // A machine that leaves this process no time can end the sweep before it is killed.
    let attempts = 1;
    for (; !(await killed(broken)) && attempts < 5; attempts++)
      rmSync(broken.output_dir, { recursive: true, maxRetries: 5 });
    expect(attempts).toBeLessThan(5);
    expect(existsSync(path.join(broken.output_dir, 'sweep.html'))).toBe(false);
    const controller = new AbortController();
    const on_progress = (fraction: number) => fraction > 0.3 && controller.abort(new Error('stopped'));
    await expect(sweep({ ...broken, resume: true, signal: controller.signal, on_progress })).rejects.toThrow('stopped');
    await sweep({ ...broken, resume: true });
    expect(bytes('broken')).toEqual(bytes('whole'));

    // The other share is that of another process.
    const shared = path.join(root, 'shared');
    const { unfinished } = await sweep({ ...tiny, output_dir: shared, shard: [1, 2] });
    expect(unfinished).toBe(3);
    expect(bytes('shared')[0]).toContain('partial');
    for (const name of ['-0-seed-0', '-0.3-seed-0', '-0-seed-0-drawn-with-iso-lambda-0.3'])
      cpSync(path.join(root, `whole/jobs/moons-lambda${name}`), path.join(shared, `jobs/moons-lambda${name}`), {
        recursive: true,
      });
    await reportSweep(shared);
    expect(bytes('shared')).toEqual(bytes('whole'));
  });

  it('writes a page that asks no other host for anything, and tables of the same numbers', async () => {
    const { advice, cells } = await reportSweep(path.join(root, 'whole'));
    const [page = '', markdown = '', json = '', csv = ''] = bytes('whole');
    expect(page.match(/(?:src|href)="(?!data:)[^"]*"|url\((?!#)/g)).toBeNull();
    expect(page.match(/<svg/g)).toHaveLength(4);
    expect(page.match(/<img src="data:image\/png/g)).toHaveLength(3);
    for (const text of [page, markdown, json]) expect(text).toContain(advice);
    const mean = cells[1]?.values.density?.spread?.mean ?? Number.NaN;
    expect(JSON.parse(json).rows).toContainEqual(
      expect.objectContaining({ lambda: 0.3, place: 'training', metric: 'density', mean }),
    );
    expect(csv.trim().split('\n')).toHaveLength(1 + 3 * 4);
    expect(markdown).toContain('| λ = 0.3 when sampling | 2');
  });

  it.runIf(hasChromium)('writes a page that a browser shows without asking for anything else', async () => {
    const file = path.join(root, 'whole/sweep.html');
    const opened = await openPage(file);
    expect(opened).toEqual({ requests: [pathToFileURL(file).href], errors: [], broken: 0, overflows: false });
    // What a page asks for is noticed.
    const asking = path.join(root, 'asking.html');
    writeFileSync(asking, '<img src="http://127.0.0.1:9/a.png" alt="">');
    expect(await openPage(asking)).toMatchObject({
      requests: [expect.any(String), 'http://127.0.0.1:9/a.png'],
      broken: 1,
    });
  });

  it('compares images too, and warns of raw pixels', async () => {
    const output_dir = path.join(root, 'digits');
    const { cells } = await sweep({
      ...{ dataset: 'digits', lambda: [0.3], seeds: 1, at_sampling: true, output_dir, nearest_k: 3 },
      ...{ resolution: 8, model: 'tiny', samples: 12, extractor: 'raw-pixels' },
      ...{ num_train_epochs: 1, per_device_train_batch_size: 256, num_inference_steps: 2 },
    });
    expect(cells.map(({ place, values }) => [place, Object.keys(values)])).toEqual([
      ['training', ['precision', 'recall', 'density', 'coverage', 'fid']],
      ['sampling', ['precision', 'recall', 'density', 'coverage', 'fid']],
    ]);
    const [page = '', markdown = '', json = ''] = bytes('digits');
    expect(page.match(/<img src="data:image\/png/g)).toHaveLength(2);
    expect(page).toContain('Warning: raw pixels compare');
    expect(markdown).toContain('**Warning: raw pixels compare');
    expect(JSON.parse(json).warnings).toHaveLength(1);
  });

  it('refuses what it cannot run before it writes', async () => {
    const output_dir = path.join(root, 'refused');
    const refused = (options: Partial<SweepOptions>) => expect(sweep({ ...tiny, output_dir, ...options })).rejects;
    await refused({ lambda: [-1] }).toThrow(/lambda/);
    await refused({ dataset: 'moon' }).toThrow(InvalidArgumentError);
    await refused({ resolution: 8 }).toThrow(/resolution is 8, but 'moons' has points/);
    await refused({ shard: [2, 2] }).toThrow(/less than the count/);
    await refused({ n: 6, nearest_k: 7 }).toThrow(/nearest_k 7 needs more/);
    expect(existsSync(path.join(output_dir, 'plan.json'))).toBe(false);
    const there = path.join(root, 'whole');
    await refused({ output_dir: there }).toThrow(/has a sweep already/);
    await expect(sweep({ ...tiny, output_dir: there, resume: true, seeds: 3 })).rejects.toThrow(ConfigError);
    await refused({ output_dir: there, resume: true, seeds: 3 }).toThrow(/seeds 2 there, 3 here/);
    await expect(reportSweep(path.join(root, 'nothing'))).rejects.toThrow(/has no sweep/);
  });

  it('says how long the least takes where the budget is too small', async () => {
    const output_dir = path.join(root, 'budget');
    const within = sweep({ ...tiny, num_train_epochs: undefined, output_dir, jobs: 1, budget_seconds: 0.5 });
    await expect(within).rejects.toThrow(/budget of 1 s is too small: 2 seeds of 2 weights with \d+ epochs take about/);
    expect(existsSync(path.join(output_dir, 'plan.json'))).toBe(false);
  });

  it('takes points of a file, and trains weight 0 alone where the others are only drawn', async () => {
    const file = path.join(root, 'my points.csv');
    writeFileSync(file, Array.from({ length: 40 }, (_, i) => `${Math.sin(i)},${Math.cos(2 * i)},${i % 7}`).join('\n'));
    const output_dir = path.join(root, 'file');
    const { cells } = await sweep({ ...tiny, dataset: file, n: undefined, seeds: 1, at_sampling: true, output_dir });
    expect(cells.map(({ lambda, place, runs }) => [lambda, place, runs])).toEqual([
      [0, 'training', 1],
      [0.3, 'sampling', 1],
    ]);
    expect(readdirSync(path.join(output_dir, 'jobs')).sort()).toEqual([
      'my-points-lambda-0-seed-0',
      'my-points-lambda-0-seed-0-drawn-with-iso-lambda-0.3',
    ]);
  });
});

/** Three seeds of weight 0 and of 0.1, with these metrics. */
function cellsOf(base: Record<string, number[]>, iso: Record<string, number[]>) {
  const bases = [0, 1, 2].map((seed) => pointJob({ lambda: 0, seed }));
  const result = (job: PointJob, values: Record<string, number[]>) => ({
    job,
    metrics: Object.fromEntries(Object.entries(values).map(([name, list]) => [name, list[job.seed]])),
  });
  const results = new Map(
    bases.flatMap((job) => [
      [jobName(job), result(job, base) as unknown as JobResult] as const,
      [jobName(withLambda(job, 0.1)), result(withLambda(job, 0.1), iso) as unknown as JobResult] as const,
    ]),
  );
  return sweepCells(bases, [0, 0.1], ['training'], results);
}

describe('what a sweep says', () => {
  const base = { precision: [0.981, 0.979, 0.984], recall: [0.992, 0.991, 0.993] };
  const iso = { precision: [0.986, 0.985, 0.987], recall: [0.99, 0.992, 0.9915] };

  it('has the intervals of scipy.stats.t.interval over paired differences', () => {
    const [, cell] = cellsOf(base, iso);
    const { mean = 0, half_width = 0 } = cell?.values.precision?.change ?? {};
    expect(mean).toBeCloseTo(0.004666666666666671, 12);
    expect(mean - half_width).toBeCloseTo(0.0008720836330699078, 10);
    expect(mean + half_width).toBeCloseTo(0.008461249700263433, 10);
  });

  it('claims a change only where its interval leaves out 0', () => {
    expect(sweepAdvice(cellsOf(base, iso))).toBe(
      'λ = 0.1: +0.0047 Precision [+0.0009, +0.0085]; Recall, Density, Coverage unclear; 3 seeds.',
    );
    expect(sweepAdvice(cellsOf(base, base))).toBe('No weight changes a metric clearly; 3 seeds.');
    expect(sweepAdvice(cellsOf(iso, base))).toBe(
      'No weight is clearly better than 0 in any metric. λ = 0.1: −0.0047 Precision [−0.0085, −0.0009]; 3 seeds.',
    );
  });

  it('names a job that draws after the job whose model it draws from', () => {
    expect(jobName(drawnWithLambda(pointJob({ lambda: 0 }), 0.1))).toBe(
      'moons-lambda-0-seed-3-drawn-with-iso-lambda-0.1',
    );
  });
});
