/**
 * `npx tsx scripts/samplers/quality.ts`: draws the Swiss roll and digits with every sampler in 10, 20, 50 and 1,000 steps,
 * measures what was drawn, and writes the tables of docs/samplers.md. Every finished draw is kept in
 * `<output>/results.jsonl`: after a stop the same command goes on.
 *
 *   --roll <folder>, --digits <folder>   saved pipelines; without them both models are trained
 *   --output <folder>                    default runs/samplers
 *   --steps <count>                      only this number of steps; may be given several times. 0 writes the tables of what is
 *                                        there already
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { applyScaler, type ImageSet, loadImages, loadPoints, type PointSet } from '../../src/datasets/index.ts';
import { spreadOf, spreadText } from '../../src/experiments/statistics/spread.ts';
import { markdownTable } from '../../src/experiments/text.ts';
import { type Prdc, precisionRecallDensityCoverage } from '../../src/metrics/index.ts';
import { pipeline } from '../../src/pipelines/index.ts';
import { type Scheduler, schedulerFromConfig } from '../../src/schedulers/index.ts';
import { namedSchedulerConfig } from '../../src/schedulers/registry.ts';
import { limitThreads } from '../../src/threads/threads.ts';
import { writeSection } from './document.ts';
import { trainedDigits, trainedRoll } from './models.ts';

const POINTS = 10_000;
/** Every 17th digit is real, and as many are drawn: 8x8 pixels are 0.3 ms of processor time a step and digit. */
const DIGITS = 100;
const STRIDE = 17;
const SEEDS = [0, 1, 2];
const STEPS = [10, 20, 50, 1000];
const METRICS = ['precision', 'recall', 'density', 'coverage'] as const;

/** By what the tables call them: the short name, and options that are not its defaults. */
const SAMPLERS: Readonly<Record<string, readonly [name: string, options?: object]>> = {
  ddpm: ['ddpm'],
  ddim: ['ddim'],
  'dpm++': ['dpm++'],
  'dpm++-karras': ['dpm++-karras'],
  'dpm++, noise': ['dpm++', { algorithm_type: 'sde-dpmsolver++' }],
  'dpm++-single': ['dpm++-single'],
  unipc: ['unipc'],
  deis: ['deis'],
  euler: ['euler'],
  'euler-a': ['euler-a'],
  heun: ['heun'],
  lms: ['lms'],
  pndm: ['pndm'],
};
/** In place of a sampler: other real data. */
const REAL = 'other real data';

interface Result extends Prdc {
  readonly data: string;
  readonly sampler: string;
  readonly steps: number;
  readonly seed: number;
  /** Of the model. */
  readonly evaluations: number;
  /** Processor seconds of the draw, on one thread. */
  readonly cpu: number;
}

/** A data set with its model. */
interface Subject {
  readonly scheduler: Scheduler;
  draw(scheduler: Scheduler, steps: number, seed: number): Promise<Float32Array>;
  measure(fake: Float32Array): Promise<Prdc>;
  /** As many real samples that are not those compared with. */
  otherReal(seed: number): Promise<Float32Array>;
  dispose(): Promise<void>;
}

async function swissRoll(folder: string): Promise<Subject> {
  const generate = await pipeline('unconditional-point-generation', folder, { device: 'cpu' });
  const real: PointSet = await loadPoints('swiss-roll', { seed: 0 });
  return {
    scheduler: generate.scheduler,
    draw: async (scheduler, num_inference_steps, seed) =>
      (await generate({ batch_size: POINTS, scheduler, num_inference_steps, seed, output_type: 'scaled' })).points,
    measure: (data) => precisionRecallDensityCoverage(real, { data, count: POINTS, dims: real.dims }),
    otherReal: async (seed) => {
      const { data, dims } = await loadPoints('swiss-roll', { seed: seed + 1, scaling: 'none' });
      return applyScaler(real.scaler, Float64Array.from(data), dims);
    },
    dispose: () => generate.dispose(),
  };
}

async function digits(folder: string): Promise<Subject> {
  const generate = await pipeline('unconditional-image-generation', folder, { device: 'cpu' });
  const set: ImageSet = await loadImages('digits', { resolution: 8, channels: 1 });
  const size = set.height * set.width;
  const toUnits = (bytes: Uint8Array) => Float32Array.from(bytes, (byte) => byte / 127.5 - 1);
  const everyOther = (first: number) => {
    const pixels = Array.from({ length: DIGITS }, (_, i) => [...set.pixels(first + i * STRIDE)]);
    return toUnits(Uint8Array.from(pixels.flat()));
  };
  const real = { data: everyOther(0), count: DIGITS, dims: size };
  return {
    scheduler: generate.scheduler,
    draw: async (scheduler, num_inference_steps, seed) => {
      const call = { batch_size: DIGITS, scheduler, num_inference_steps, seed, output_type: 'uint8' } as const;
      return toUnits((await generate(call)).data);
    },
    measure: (data) => precisionRecallDensityCoverage(real, { data, count: DIGITS, dims: size }),
    otherReal: async (seed) => everyOther(4 * (seed + 1)),
    dispose: () => generate.dispose(),
  };
}

/** The solvers in log-SNR take at most T - 1 steps. */
function started(own: Scheduler, sampler: string, steps: number): { scheduler: Scheduler; steps: number } {
  const [name = '', options = {}] = SAMPLERS[sampler] ?? [];
  const scheduler = schedulerFromConfig({ ...own.toConfig(), ...namedSchedulerConfig(name), ...options });
  const inLogSnr = /DPMSolver|UniPC|DEIS/.test(scheduler.className);
  const most = own.config.num_train_timesteps - (inLogSnr ? 1 : 0);
  scheduler.setTimesteps(Math.min(steps, most));
  return { scheduler, steps: Math.min(steps, most) };
}

async function resultOf(subject: Subject, data: string, sampler: string, steps: number, seed: number): Promise<Result> {
  const about = { data, sampler, steps, seed };
  if (sampler === REAL)
    return { ...about, evaluations: 0, cpu: 0, ...(await subject.measure(await subject.otherReal(seed))) };
  const made = started(subject.scheduler, sampler, steps);
  await subject.draw(made.scheduler, 4, seed); // what is loaded at the first draw is not timed
  const before = process.cpuUsage();
  const drawn = await subject.draw(made.scheduler, made.steps, seed);
  const { user, system } = process.cpuUsage(before);
  const measured = await subject.measure(drawn);
  return { ...about, evaluations: made.scheduler.timesteps.length, cpu: (user + system) / 1e6, ...measured };
}

function tables(results: readonly Result[], data: string, steps: readonly number[]): string {
  const row = (sampler: string, of: readonly Result[]) => {
    const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
    return [
      sampler,
      ...METRICS.map((metric) => spreadText(spreadOf(of.map((result) => result[metric])), 3)),
      ...(sampler === REAL ? ['', ''] : [String(of[0]?.evaluations), mean(of.map(({ cpu }) => cpu)).toFixed(2)]),
    ];
  };
  const header = ['sampler', 'Precision', 'Recall', 'Density', 'Coverage', 'evaluations', 'processor s'];
  const those = (sampler: string, count?: number) =>
    results.filter((each) => each.data === data && each.sampler === sampler && (each.steps === count || !count));
  return steps
    .flatMap((count) => {
      const drawn = Object.keys(SAMPLERS).filter((sampler) => those(sampler, count).length === SEEDS.length);
      const rows = [...drawn.map((sampler) => row(sampler, those(sampler, count))), row(REAL, those(REAL))];
      return drawn.length > 0 ? [`${count.toLocaleString('en')} steps:`, markdownTable(header, rows)] : [];
    })
    .join('\n\n');
}

const { values } = parseArgs({
  options: {
    roll: { type: 'string' },
    digits: { type: 'string' },
    output: { type: 'string', default: 'runs/samplers' },
    steps: { type: 'string', multiple: true },
  },
});
const chosenSteps = values.steps?.map(Number).filter((steps) => steps > 0) ?? STEPS;
limitThreads(1);
mkdirSync(values.output, { recursive: true });
const resultsFile = path.join(values.output, 'results.jsonl');
const results: Result[] = existsSync(resultsFile)
  ? readFileSync(resultsFile, 'utf8')
      .trim()
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line))
  : [];

const subjects: Readonly<Record<string, Subject>> = {
  'swiss-roll': await swissRoll(values.roll ?? (await trainedRoll(values.output))),
  digits: await digits(values.digits ?? (await trainedDigits(values.output))),
};
// Few steps first: they say most, and take least.
for (const [steps, samplers] of [[0, [REAL]] as const, ...chosenSteps.map((n) => [n, Object.keys(SAMPLERS)] as const)])
  for (const [data, subject] of Object.entries(subjects))
    for (const sampler of samplers)
      for (const seed of SEEDS) {
        const isThis = (done: Result) =>
          done.data === data && done.sampler === sampler && done.steps === steps && done.seed === seed;
        if (results.some(isThis)) continue;
        const result = await resultOf(subject, data, sampler, steps, seed);
        appendFileSync(resultsFile, `${JSON.stringify(result)}\n`);
        results.push(result);
        const measured = METRICS.map((metric) => result[metric].toFixed(3)).join(' ');
        console.log(`${data}, ${sampler}, ${steps} steps, seed ${seed}: ${measured}, ${result.cpu.toFixed(1)} s`);
      }
for (const [data, subject] of Object.entries(subjects)) {
  await writeSection('samplers.md', `${data} by sampler`, tables(results, data, STEPS));
  await subject.dispose();
}
