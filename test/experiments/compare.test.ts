import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { ConfigError, FileFormatError, InvalidArgumentError } from '../../src/errors.ts';
import { type Job, jobName, writeJob } from '../../src/experiments/jobs/job.ts';
import { runJob } from '../../src/experiments/jobs/job-process.ts';
import { drawnWithLambda } from '../../src/experiments/sweep/jobs.ts';
import {
  type CompareOptions,
  ConditionalDense,
  compareRuns,
  DDPMScheduler,
  isoLoss,
  loadPoints,
  Trainer,
} from '../../src/index.ts';
import { imageJob, pointJob, undisturbed, writeSquares } from './tiny-jobs.ts';

vi.setConfig({ testTimeout: 120_000 });
const root = mkdtempSync(path.join(tmpdir(), 'iso-compare-'));
const at = (...names: string[]) => path.join(root, ...names);
const [ddpm, iso] = [at('ddpm'), at('iso')];
beforeAll(async () => {
  vi.stubEnv('XDG_CACHE_HOME', at('cache'));
  await Promise.all([trained('ddpm', 0), trained('iso', 0.2), writeSquares(at('squares'))]);
}, 120_000);
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true, force: true });
});

/** Runs a job in `jobs`, and gives its folder. */
async function finished(job: Job): Promise<string> {
  const folder = at('jobs', jobName(job));
  await writeJob(folder, job);
  await runJob(job, folder, undisturbed());
  return folder;
}

/** Trains as the command line does, into a folder with its pipeline. @param later lambda from step 3 on. */
async function trained(name: string, lambda: number, later?: number): Promise<string> {
  const trainer: Trainer = new Trainer({
    model: new ConditionalDense({ hidden_features: 8 }),
    args: { output_dir: at(name), max_steps: 6, logging_steps: 2, device: 'cpu', disable_tqdm: true },
    train_dataset: await loadPoints('moons', { n: 40 }),
    loss: isoLoss({ lambda }),
    noise_scheduler: new DDPMScheduler({ clip_sample: false }),
    ...(later === undefined
      ? {}
      : {
          changeable_scalars: ['lambda'],
          callbacks: [{ interval_steps: 2, onInterval: () => trainer.change({ loss: { lambda: later } }) }],
        }),
  });
  await trainer.train();
  await trainer.savePipeline(at(name, 'pipeline'));
  return at(name);
}

const text = (name: string) => readFileSync(at('out', name), 'utf8');
const compare = (runs: string[], options: Partial<CompareOptions> = {}) =>
  compareRuns({ runs, output_dir: at('out'), sample_count: 30, num_inference_steps: 2, device: 'cpu', ...options });

describe('compareRuns', () => {
  it('pairs runs of a sweep by their seeds', async () => {
    const seeds = [3, 4];
    const bases = await Promise.all(seeds.map((seed) => finished(pointJob({ lambda: 0, seed }))));
    const others = await Promise.all(seeds.map((seed) => finished(pointJob({ lambda: 0.3, seed }))));
    // In another order: a pair is found by its seed.
    const { sides, settings, summary } = await compare([...bases, ...others.reverse()]);
    expect(sides.map(({ name, seeds: each }) => [name, each])).toEqual([
      ['moons-lambda-0', [3, 4]],
      ['moons-lambda-0.3', [4, 3]],
    ]);
    expect(settings).toEqual({ 'loss.lambda': [0, 0.3] });
    expect(summary).toMatch(/^moons-lambda-0.3 against moons-lambda-0: .*; 2 pairs\.$/);

    const result = (lambda: number, seed: number) =>
      JSON.parse(readFileSync(at('jobs', jobName(pointJob({ lambda, seed })), 'result.json'), 'utf8'));
    const changes = seeds.map((seed) => result(0.3, seed).metrics.density - result(0, seed).metrics.density);
    const mean = changes.reduce((sum, change) => sum + change, 0) / 2;
    const std = Math.sqrt(changes.reduce((sum, change) => sum + (change - mean) ** 2, 0));
    const change = sides[1]?.values.density?.change;
    expect(change?.mean).toBeCloseTo(mean, 12);
    // scipy.stats.t.ppf(0.975, 1)
    expect(change?.half_width).toBeCloseTo((12.706204736174698 * std) / Math.sqrt(2), 10);

    const page = text('compare.html');
    expect(page.match(/(?:src|href)="(?!data:)[^"]*"|url\((?!#)/g)).toBeNull();
    expect(page.match(/<img src="data:image\/png/g)).toHaveLength(2);
    for (const name of ['loss', 'base_loss', 'isotropy']) expect(page).toContain(`>${name}<`);
    const { rows } = JSON.parse(text('compare.json'));
    expect(rows).toContainEqual(
      expect.objectContaining({
        side: 'moons-lambda-0.3',
        metric: 'density',
        change_pairs: 2,
        change_mean: change?.mean,
      }),
    );
    expect(text('compare.csv').trim().split('\n')).toHaveLength(1 + rows.length);
    expect(text('compare.md')).toMatch(/\| loss.lambda +\| 0 +\| 0\.3 +\|/);

    cpSync(bases[0] ?? '', at('again'), { recursive: true });
    const repeated = await compare([...bases, at('again')], { sample_count: 0 });
    expect(repeated.sides.map(({ name, seeds: each }) => [name, each])).toEqual([
      ['moons-lambda-0', [3, 4]],
      ['again', [3]],
    ]);
    expect(repeated.sides[1]?.values.recall?.change?.mean).toBe(0);

    const drawn = await finished(drawnWithLambda(pointJob({ lambda: 0, seed: 3 }), 0.3));
    const against = await compare([bases[0] ?? '', drawn]);
    expect(against.settings).toEqual({ iso_lambda: ['as trained', 0.3] });
    expect(text('compare.html').match(/<img src="data:image\/png/g)).toHaveLength(2);
  });

  it('compares outputs of training, measured now, and pipelines', async () => {
    const { sides, settings, summary, warnings } = await compare([ddpm, iso], { dataset: 'moons', num_samples: 40 });
    expect(settings).toEqual({ 'loss.lambda': [0, 0.2] });
    expect(sides.map(({ name, seeds }) => [name, seeds])).toEqual([
      ['ddpm', [0]],
      ['iso', [0]],
    ]);
    const [before, after] = sides.map(({ values }) => values.recall);
    expect(after?.change?.mean).toBeCloseTo((after?.spread.mean ?? 0) - (before?.spread.mean ?? 0), 12);
    expect(after?.change?.half_width).toBeUndefined();
    expect(summary).toContain('one pair of runs');
    expect(warnings).toEqual([]);
    expect(text('compare.md')).toContain('40 samples against 40 of moons');

    // Of a run whose lambda was changed it says both, and when.
    const changed = await compare([iso, await trained('changed', 0.2, 0.5)], { sample_count: 0 });
    expect(changed.settings).toMatchObject({ 'loss.lambda': [0.2, '0.2, from step 3 on 0.5'] });
    expect(text('compare.md')).toContain('0.2, from step 3 on 0.5');

    // A run of a sweep calls its settings otherwise.
    const mixed = await compare([iso, await finished(pointJob({ lambda: 0.3, seed: 3 }))], { sample_count: 0 });
    expect(mixed.settings).toMatchObject({ 'loss.lambda': [0.2, 0.3], per_device_train_batch_size: [512, 32] });
    expect(Object.keys(mixed.settings).filter((name) => name.startsWith('model.'))).toEqual([
      'model.num_train_timesteps',
    ]);
    expect(text('compare.md')).toMatch(/Not all folders say: .*dataset_sha256/);

    // The same models by themselves: the same noise gives the same samples, and there are no curves.
    const pictures = () => text('compare.html').match(/data:image\/png;base64,[^"]*/g);
    await compare([ddpm, iso]);
    const withLog = pictures();
    const alone = await compare([at('ddpm/pipeline'), at('iso/pipeline')]);
    expect(pictures()).toEqual(withLog);
    expect(alone.sides.map(({ name }) => name)).toEqual(['ddpm/pipeline', 'iso/pipeline']);
    expect(text('compare.html')).toContain('None of the runs has a log');
    expect(alone.summary).toContain('nothing was measured on both');
  });

  it('compares images, with what evaluations warn of', async () => {
    const squares = { name: 'squares', source: at('squares'), extractor: 'raw-pixels' } as const;
    const base = imageJob({ ...squares, lambda: 0 });
    const runs = [await finished(base), await finished(drawnWithLambda(base, 0.1))];
    const { warnings, sides } = await compare(runs, { sample_count: 4 });
    expect(warnings).toEqual([expect.stringContaining('raw pixels')]);
    expect(Object.keys(sides[1]?.values ?? {})).toContain('fid');
    expect(text('compare.html')).toContain('Warning: ');
    expect(text('compare.html').match(/<img src="data:image\/png/g)).toHaveLength(2);
    const measured = await compare(runs, {
      ...{ dataset: at('squares'), extractor: 'raw-pixels', num_samples: 12, nearest_k: 3, metrics: ['prdc'] },
      sample_count: 0,
    });
    expect(measured.warnings).toEqual(warnings);
    expect(Object.keys(measured.sides[1]?.values ?? {})).toEqual(['precision', 'recall', 'density', 'coverage']);
    await expect(compare([runs[0] ?? '', ddpm])).rejects.toThrow(/draws images .* draws points .* cannot be compared/);
  });

  it('refuses what cannot be compared before it writes', async () => {
    rmSync(at('out'), { recursive: true, force: true });
    const refused = (runs: string[], options: Partial<CompareOptions> = {}) => expect(compare(runs, options)).rejects;
    await refused([ddpm]).toThrow(/at least two runs/);
    await refused([ddpm, at('nothing')]).toThrow(/nothing is not a folder/);
    await refused([ddpm, root]).toThrow(/is not a run: it is neither an output of train/);
    await refused([ddpm, iso, `${ddpm}/`]).toThrow(/is named twice/);
    await refused([ddpm, iso], { dataset: at('squares') }).toThrow(/draw points, but .* has images/);
    await refused([ddpm, iso], { dataset: 'moon' }).toThrow(InvalidArgumentError);
    await refused([ddpm, iso], { nearest_k: 3 }).toThrow(/give a dataset too/);

    cpSync(iso, at('other'), { recursive: true });
    rmSync(at('other/metrics.jsonl'));
    await refused([ddpm, at('other')]).toThrow(/has no log: there is no metrics.jsonl/);
    writeFileSync(at('other/metrics.jsonl'), 'not a log\n');
    await refused([ddpm, at('other')]).toThrow(FileFormatError);
    cpSync(at('iso/metrics.jsonl'), at('other/metrics.jsonl'));
    rmSync(at('other/pipeline'), { recursive: true });
    await refused([ddpm, at('other')]).toThrow(/has no pipeline in .*other.pipeline/);

    mkdirSync(at('open'));
    await writeJob(at('open'), pointJob());
    await refused([ddpm, at('open')]).toThrow(/is not finished: resume it first/);
    writeFileSync(at('open/job.json'), '{}');
    await refused([ddpm, at('open')]).toThrow(ConfigError);
    expect(existsSync(at('out'))).toBe(false);
  });
});
