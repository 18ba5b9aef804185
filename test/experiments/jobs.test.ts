import { fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { JobFailedError } from '../../src/errors.ts';
import { GENERATED_FILE, type Job, readResult, writeJob } from '../../src/experiments/jobs/job.ts';
import { JobProcess, runJob } from '../../src/experiments/jobs/job-process.ts';
import { jobRuns, prepareJobs, runJobs, unfinishedJobs } from '../../src/experiments/jobs/run-jobs.ts';
import { packageScript } from '../../src/files/package-files.ts';
import { limitThreads } from '../../src/threads/threads.ts';
import { imageJob, pointJob, undisturbed, writeSquares } from './tiny-jobs.ts';

const worker = fileURLToPath(packageScript('experiments/jobs/job-worker.ts'));
vi.setConfig({ testTimeout: 180_000 });
let root: string;
beforeAll(() => {
  root = mkdtempSync(path.join(tmpdir(), 'iso-reproduce-'));
  limitThreads(1);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** What must not depend on how the job came to its end: all but times. */
async function outcome(folder: string) {
  const result = await readResult(folder);
  const generated = result?.job.kind === 'points' ? readFileSync(path.join(folder, GENERATED_FILE), 'base64') : '';
  return { ...result, timing: undefined, generated };
}

async function inThisProcess(name: string, job: Job): Promise<string> {
  const folder = path.join(root, name);
  await writeJob(folder, job);
  await runJob(job, folder, undisturbed());
  return folder;
}

/** Runs the job of a folder in a process that is killed after its first checkpoint; false if the job was finished by then. */
async function killed(folder: string): Promise<boolean> {
  const child = fork(worker, {
    execArgv: [],
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  child.send({ id: 0, request: { folder } });
  const closed = once(child, 'close');
  const isThere = (name: string) => existsSync(path.join(folder, name));
  const timer = setInterval(() => (isThere('timing.json') || isThere('result.json')) && child.kill('SIGKILL'), 2);
  await closed;
  clearInterval(timer);
  return isThere('timing.json') && !isThere('result.json');
}

describe('a job', () => {
  it('that is killed while it trains goes on, and ends as an unbroken one', async () => {
    const job = pointJob({ epochs: 2000 });
    const folder = path.join(root, 'killed');
    await writeJob(folder, job);
    // A machine that leaves this process no time can end the job before it is killed.
    for (let attempts = 1; !(await killed(folder)); attempts++) {
      expect(attempts).toBeLessThan(5);
      rmSync(folder, { recursive: true });
      await writeJob(folder, job);
    }
    expect(await readResult(folder)).toBeUndefined();
    expect(readdirSync(path.join(folder, 'training')).some((name) => name.startsWith('checkpoint-'))).toBe(true);
    const timeSoFar = JSON.parse(readFileSync(path.join(folder, 'timing.json'), 'utf8')).wall_seconds;

    const jobs = new JobProcess();
    await jobs.run(folder, undisturbed());
    await jobs.release();
    expect(await outcome(folder)).toEqual(await outcome(await inThisProcess('unbroken', job)));
    expect((await readResult(folder))?.timing.wall_seconds).toBeGreaterThan(timeSoFar);
    expect(existsSync(path.join(folder, 'training'))).toBe(false);
  });

  it('on images measures what it drew, and goes on after a stop', async () => {
    vi.stubEnv('XDG_CACHE_HOME', path.join(root, 'cache'));
    const source = path.join(root, 'squares');
    await writeSquares(source);
    const job = imageJob({ name: 'squares', source });
    const folder = path.join(root, 'images');
    await writeJob(folder, job);
    const controller = new AbortController();
    const onProgress = (fraction: number) => fraction > 0.7 && controller.abort(new Error('stopped'));
    await expect(runJob(job, folder, { signal: controller.signal, onProgress })).rejects.toThrow('stopped');
    await runJob(job, folder, undisturbed());
    expect(await outcome(folder)).toEqual(await outcome(await inThisProcess('images-unbroken', job)));
    const result = await readResult(folder);
    expect(result).toMatchObject({ real_images: 24, generated_images: 12 });
    // Pixels are no class logits, but the score's range holds for any: 1 to the number of them.
    const score = result?.job.kind === 'images' ? Number(Object(result).metrics.inception_score) : Number.NaN;
    expect(score).toBeGreaterThanOrEqual(1);
    expect(score).toBeLessThanOrEqual(192);
    expect(readdirSync(path.join(folder, 'images')).filter((file) => file.endsWith('.png'))).toHaveLength(12);
  });

  it('gives the same beside another process as alone', async () => {
    const jobs = [pointJob(), pointJob({ lambda: 0 })];
    const runs = jobRuns(path.join(root, 'parallel'), jobs);
    const seen: number[] = [];
    await runJobs(await prepareJobs(runs, false), {
      parallel: 2,
      signal: undisturbed().signal,
      onProgress: (_run, fraction) => seen.push(fraction),
    });
    expect(seen.length).toBeGreaterThan(0);
    expect(await unfinishedJobs(runs)).toEqual([]);
    for (const { name, folder, job } of runs)
      expect(await outcome(folder)).toEqual(await outcome(await inThisProcess(name, job)));
  });

  it('that cannot run says why, and the next one runs', async () => {
    const jobs = new JobProcess();
    const failure = await jobs.run(path.join(root, 'nothing'), undisturbed()).catch((error) => error);
    expect(failure).toBeInstanceOf(JobFailedError);
    expect(failure.message).toMatch(/holds no job.json/);
    const folder = path.join(root, 'next');
    mkdirSync(folder);
    await writeJob(folder, pointJob());
    await jobs.run(folder, undisturbed());
    expect(await readResult(folder)).toBeDefined();
    await jobs.release();
  });
});

describe('prepareJobs', () => {
  it('refuses what is there unless it is to be resumed, and other settings always', async () => {
    const output = path.join(root, 'prepared');
    const runs = jobRuns(output, [pointJob()]);
    expect(await prepareJobs(runs, false)).toEqual(runs);
    await expect(prepareJobs(runs, false)).rejects.toThrow(/add --resume/);
    expect(await prepareJobs(runs, true)).toEqual(runs);
    const others = jobRuns(output, [pointJob({ epochs: 7 })]);
    await expect(prepareJobs(others, true)).rejects.toThrow(/epochs 2 there, 7 here/);
    await expect(unfinishedJobs(others)).rejects.toThrow(/other settings/);
  });
});
