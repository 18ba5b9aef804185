import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { guideSnippets } from './guides.ts';
import { optionMembers } from './hover.ts';
import { compile, makePackedProject, succeed } from './packed-project.ts';

const { exports } = JSON.parse(readFileSync('package.json', 'utf8')) as {
  exports: Record<string, { types: string } | string>;
};
/** The declarations of every entry of the package. */
const ENTRIES = Object.values(exports).flatMap((entry) => (typeof entry === 'string' ? [] : [entry.types]));

/** What is written for browsers has their types too. It is JavaScript, which cannot say the types of its parameters. */
const PAGE_CONFIG = JSON.stringify({
  extends: '../tsconfig.json',
  compilerOptions: {
    lib: ['ES2023', 'DOM', 'DOM.Iterable', 'DOM.AsyncIterable'],
    rootDir: '.',
    noEmit: true,
    noImplicitAny: false,
  },
  include: ['.'],
});

let project: string;
let errors: readonly string[];
beforeAll(() => {
  project = makePackedProject(inject('build'));
  const page = path.join(project, 'page');
  mkdirSync(page);
  writeFileSync(path.join(page, 'tsconfig.json'), PAGE_CONFIG);
  for (const { name, text, isOfPage } of guideSnippets())
    writeFileSync(path.join(project, isOfPage ? 'page' : 'src', name), text);
  errors = [...compile(project), ...compile(page)];
}, 240_000);
afterAll(() => rmSync(project, { recursive: true, force: true }));

describe('the packed package', () => {
  it('compiles in a strict project, with the programs of README and docs', () => {
    expect(guideSnippets().filter(({ isOfPage }) => !isOfPage).length).toBeGreaterThan(30);
    expect(errors).toEqual([]);
  });

  it('says of every member of its options what it is and its default, when an editor points at it', () => {
    const members = optionMembers(project, ENTRIES);
    expect(members.length).toBeGreaterThan(250);
    expect(members.filter(({ documentation }) => documentation === '').map(({ name }) => name)).toEqual([]);
    const optional = members.filter(({ isOfOptions, isOptional }) => isOfOptions && isOptional);
    expect(optional.length).toBeGreaterThan(150);
    expect(optional.filter(({ documentation }) => !/\bdefault/i.test(documentation)).map(({ name }) => name)).toEqual(
      [],
    );
  });

  it('lets an editor complete devices and number formats', () => {
    const choices = optionMembers(project, ENTRIES).filter(({ name }) => /\.(device|dtype)$/.test(name));
    expect(choices.length).toBeGreaterThan(5);
    expect(choices.filter(({ completes }) => !completes)).toEqual([]);
  });
});

describe('what a user adds from outside', () => {
  const run = (script: string) => JSON.parse(succeed('node', [`build/${script}.js`], project));
  const cli = (...args: string[]) =>
    succeed(
      'node',
      ['node_modules/iso-diffusion/bin/iso-diffusion.js', ...args, '--import', './build/mine.js'],
      project,
    );

  let trained: { steps: number; reports: Record<string, number>[] };
  beforeAll(() => {
    trained = run('train');
  });

  it('differentiates an op of its own', async () => {
    succeed('node', ['build/gradient.js'], project);
    const session = await InferenceSession.create(path.join(project, 'softsign.onnx'));
    const run = async (x: readonly number[]) => {
      const { loss, dx } = await session.run({ x: new Tensor('float64', Float64Array.from(x), [4]) });
      return { loss: Number(loss?.data[0]), dx: Array.from(dx?.data as Float64Array) };
    };
    const at = [0.7, -1.5, 2, -0.1];
    const { dx } = await run(at);
    for (const [i, slope] of dx.entries()) {
      const [above, below] = await Promise.all([1e-6, -1e-6].map((step) => run(at.with(i, (at[i] ?? 0) + step))));
      expect(slope).toBeCloseTo(((above?.loss ?? 0) - (below?.loss ?? 0)) / 2e-6, 6);
    }
  });

  it('trains, and reports the terms of its own loss', () => {
    expect(trained.steps).toBe(6);
    expect(trained.reports).toHaveLength(3);
    for (const report of trained.reports) {
      expect(Object.values(report).every(Number.isFinite)).toBe(true);
      const { loss, base_loss = Number.NaN, weighted_isotropy_penalty = Number.NaN, largest_error } = report;
      expect(loss).toBeCloseTo(base_loss + weighted_isotropy_penalty, 5);
      expect(largest_error).toBeGreaterThan(base_loss);
    }
    const lines = readFileSync(path.join(project, 'runs/bars/metrics.jsonl'), 'utf8').trim().split('\n');
    expect(lines.map((line) => JSON.parse(line).largest_error)).toEqual(
      trained.reports.map((report) => report.largest_error),
    );
  });

  it('opens in another process that has not registered the model', () => {
    expect(run('reopen')).toEqual({ size: [8, 8, 1] });
  });

  it('samples with its own scheduler and is measured by its own metric', () => {
    const { size, timesteps, same, images, points } = run('sample');
    expect(size).toEqual([8, 8, 1]);
    expect(timesteps).toEqual([999, 832.5, 666, 499.5, 333, 166.5, 0]);
    expect(same).toBe(true);
    expect(images.extractor.name).toBe('quadrants');
    expect(images.metrics.mean_distance).toBeGreaterThan(0);
    expect(Object.keys(points.metrics)).toEqual(['mean_distance', 'precision', 'recall', 'density', 'coverage']);
  });

  it('is named on the command line', () => {
    cli(
      'train',
      '--dataset',
      'digits',
      '--n',
      '32',
      '--model',
      'TinyDiT',
      '--loss',
      'pseudo-huber',
      '--max-steps',
      '2',
      '--sample-every',
      '0',
      '--batch-size',
      '8',
      '--output',
      'runs/cli',
    );
    cli(
      'generate',
      '--model',
      'runs/cli/pipeline',
      '--scheduler',
      'EulerScheduler',
      '--steps',
      '4',
      '--n',
      '4',
      '--out',
      'drawn',
    );
    expect(readdirSync(path.join(project, 'drawn')).filter((name) => name.endsWith('.png'))).toHaveLength(4);
    const report = cli(
      'evaluate',
      '--real',
      'digits',
      '--fake',
      'drawn',
      '--metrics',
      'mean-distance',
      '--extractor',
      'quadrants',
      '--json',
    );
    expect(JSON.parse(report).mean_distance).toBeGreaterThan(0);
  }, 120_000);
});
