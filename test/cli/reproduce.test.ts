import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { main } from '../../src/cli/main.ts';
import { RESULT_FILE, writeJob } from '../../src/experiments/jobs/job.ts';
import { runJob } from '../../src/experiments/jobs/job-process.ts';
import { jobRuns } from '../../src/experiments/jobs/run-jobs.ts';
import { pointJobs, TARGETS } from '../../src/experiments/reproduce/paper/targets.ts';
import { PRESET_SETTINGS } from '../../src/experiments/reproduce/presets.ts';
import { undisturbed, writeSquares } from '../experiments/tiny-jobs.ts';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });
let root: string;
let printed: string;
let complained: string;
beforeAll(() => {
  root = mkdtempSync(path.join(tmpdir(), 'iso-reproduce-cli-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

/** The command line in this process; only the jobs are processes of their own. */
async function reproduce(...args: string[]): Promise<number> {
  printed = '';
  complained = '';
  vi.spyOn(console, 'log').mockImplementation((text: string) => {
    printed += `${text}\n`;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    complained += String(text);
    return true;
  });
  return main(['reproduce', ...args]);
}

const tiny = { points: 40, epochs: 1, batch_size: 40, num_inference_steps: 2 };
const tinyFlags = ['--preset', 'smoke', '--points', '40', '--epochs', '1', '--batch-size', '40', '--steps', '2'];

describe('iso-diffusion reproduce', () => {
  it('reports every table and figure on points, beside the figures of the paper', async () => {
    const targets = TARGETS.filter((target) => target !== 'table-6' && target !== 'figure-2');
    const output = path.join(root, 'points');
    const settings = { ...PRESET_SETTINGS.smoke.points, ...tiny, device: 'cpu' } as const;
    const runs = jobRuns(output, pointJobs(targets, [0], settings));
    // Each of the 4 sets with each of the 6 weights, once, though several targets need it.
    expect(runs).toHaveLength(24);
    for (const { folder, job } of runs) {
      mkdirSync(folder, { recursive: true });
      await writeJob(folder, job);
      await runJob(job, folder, undisturbed());
    }
    const report = path.join(root, 'docs/results.md');
    const code = await reproduce(
      ...targets,
      ...tinyFlags,
      '--runs',
      '1',
      '--output',
      output,
      '--report-only',
      '--report',
      report,
    );
    expect({ code, complained }).toEqual({ code: 0, complained: '' });

    const read = (file: string) => readFileSync(path.join(output, file), 'utf8');
    for (const target of targets) {
      const { rows, paper, summary } = JSON.parse(read(`${target}.json`));
      expect(paper).toBe('arXiv 2403.16790');
      expect(summary).toMatchObject({ jobs: 24, finished: 24, seeds: [0] });
      expect(read(`${target}.csv`).trim().split('\n')).toHaveLength(rows.length + 1);
      expect(read(`${target}.md`)).not.toMatch(/NaN|undefined/);
    }
    const [folder] = runs.filter(({ name }) => name === 'moons-lambda-0.2-seed-0').map((run) => run.folder);
    const { metrics } = JSON.parse(readFileSync(path.join(folder ?? '', RESULT_FILE), 'utf8'));
    expect(JSON.parse(read('table-3.json')).rows).toContainEqual(
      expect.objectContaining({
        dataset: 'moons',
        lambda: 0.2,
        metric: 'recall',
        mean: metrics.recall,
        paper: 0.991,
        runs: 1,
      }),
    );
    expect(read('table-3.md')).toContain('| 0.991');
    for (const plot of ['figure-1', 'figure-3', 'figure-4', 'figure-5', 'section-4-moons-training'])
      for (const extension of ['svg', 'png']) expect(existsSync(path.join(output, `${plot}.${extension}`))).toBe(true);

    const combined = readFileSync(report, 'utf8');
    expect(combined.match(/^## /gm)).toHaveLength(targets.length);
    // The smoke preset gives no verdicts, so there is no overview of what agrees either.
    expect(combined).toContain('smoke preset trains too little');
    expect(combined).not.toMatch(/unclear|agrees|opposite/);
    for (const [, link = ''] of combined.matchAll(/\]\((images[^)]+)\)/g))
      expect(existsSync(path.join(path.dirname(report), link)), link).toBe(true);
  });

  it('says what is missing when only a part is finished', async () => {
    const output = path.join(root, 'points');
    rmSync(path.join(output, 'jobs/swiss-roll-lambda-0.1-seed-0'), { recursive: true, force: true });
    expect(await reproduce('table-1', ...tinyFlags, '--runs', '1', '--output', output, '--report-only')).toBe(0);
    expect(readFileSync(path.join(output, 'table-1.md'), 'utf8')).toContain('1 of 8 runs are not finished');
  });

  it('trains on images; Ctrl-C stops it with advice, --resume ends it', async () => {
    vi.stubEnv('XDG_CACHE_HOME', path.join(root, 'cache'));
    await writeSquares(path.join(root, 'squares'));
    const output = path.join(root, 'images');
    const args = ['table-6', 'figure-2', '--preset', 'smoke', '--runs', '1', '--epochs', '1', '--samples', '12'];
    const flags = [
      ...args,
      '--data',
      path.join(root, 'squares'),
      '--batch-size',
      '8',
      '--steps',
      '2',
      '--jobs',
      '2',
      '--output',
      output,
    ];
    const begun = () => existsSync(path.join(output, 'jobs/squares-lambda-0-seed-0/training'));
    const timer = setInterval(() => {
      if (!begun()) return;
      clearInterval(timer);
      process.emit('SIGINT');
    }, 20);
    expect(await reproduce(...flags)).toBe(130);
    clearInterval(timer);
    expect(complained).toMatch(/interrupted: saving checkpoints.*stopped after \d of 2 runs; continue with --resume/s);

    expect(await reproduce(...flags)).toBe(2);
    expect(complained).toMatch(/already exists: add --resume/);
    expect(await reproduce(...flags, '--resume')).toBe(0);
    expect(printed).toMatch(/FID +\| \d+\.\d{4}/);
    expect(readFileSync(path.join(output, 'table-6.md'), 'utf8')).toMatch(/raw-pixels 8x8x3 \(SHA-256/);
    expect(readFileSync(path.join(output, 'table-6.md'), 'utf8')).toMatch(/\n\nWarning: raw pixels compare brightness/);
    for (const model of ['ddpm', 'iso'])
      expect(existsSync(path.join(output, `figure-2-squares-${model}.png`))).toBe(true);
    expect(await reproduce(...flags, '--epochs', '2', '--resume')).toBe(2);
    expect(complained).toMatch(/epochs 1 there, 2 here/);
  });

  it('shows examples in its help', async () => {
    const write = vi.spyOn(process.stdout, 'write').mockImplementation(() => true);
    expect(await reproduce('--help')).toBe(0);
    const help = write.mock.calls.map(([text]) => String(text)).join('');
    expect(help).toMatch(/Examples:\n +iso-diffusion reproduce table-1 --preset smoke/);
  });

  it.each([
    [['table-7'], /the target 'table-7' is unknown.*Did you mean 'table-\d'\?/],
    [['table-1', '--preset', 'quick'], /--preset/],
    [['table-1', '--runs', '0'], /--runs/],
    [['table-1', '--points', '5'], /--points/],
    [['table-1', '--extractor', 'inception'], /--extractor is given, but table-1 has no use for it/],
    [['table-6', '--points', '100'], /--points is given, but table-6 has no use for it/],
    [['table-6', '--data', 'nowhere/flowers'], /'nowhere\/flowers' does not exist; give digits, .*oxford/],
    [['table-6', '--preset', 'smoke', '--extractor', 'nothing.onnx'], /nothing.onnx/],
    [['table-6', '--preset', 'smoke', '--resolution', '9'], /sample_size 9 must be a multiple of 2/],
    [['table-1', '--report-only'], /has no finished run of table-1/],
    [['table-1', '--preset', 'smoke', '--report', 'report.txt'], /--report.*must end in .md/],
  ])('refuses %j before any work', async (args, message) => {
    const output = path.join(root, 'refused');
    expect(await reproduce(...args, '--output', output)).toBe(2);
    expect(complained).toMatch(message);
    expect(existsSync(path.join(output, 'jobs'))).toBe(false);
  });
});
