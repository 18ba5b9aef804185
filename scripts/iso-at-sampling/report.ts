import path from 'node:path';
import sharp from 'sharp';
import {
  type CompareResult,
  type DrawResult,
  type JobResult,
  jobName,
  type TrainedResult,
} from '../../src/experiments/jobs/job.ts';
import {
  type Equivalence,
  equivalenceOf,
  intervalText,
  spreadOf,
  spreadText,
} from '../../src/experiments/statistics/spread.ts';
import { comparedWithBase, drawnWithLambda, drawnWithScale, withLambda } from '../../src/experiments/sweep/jobs.ts';
import { counted, METRIC_TITLES, markdownTable, signed } from '../../src/experiments/text.ts';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { minimiserScale } from '../../src/losses/minimiser.ts';
import { curvePlot, svgToPng } from '../../src/plots/index.ts';
import { duration } from '../../src/terminal/progress.ts';
import { MARGINS, type StudySet } from './study.ts';

type Results = ReadonlyMap<string, JobResult>;
type Metric = keyof typeof MARGINS;
const METRICS = Object.keys(MARGINS) as Metric[];
/** Images have the FID too, which has no margin. */
type StudyMetric = Metric | 'fid';
const metricsOf = (set: string): StudyMetric[] => (set === 'digits' ? [...METRICS, 'fid'] : METRICS);
/** Below it the models are far from their minimum, and differ by chance. */
const LATE_TIMESTEP = 150;

interface Plot {
  readonly name: string;
  readonly caption: string;
  readonly svg: string;
}

/** A weight's runs of one set, those of a seed at the same index: only seeds that have all of them. */
interface Cell {
  readonly lambda: number;
  readonly base: readonly TrainedResult[];
  readonly scaled: readonly DrawResult[];
  readonly trained: readonly TrainedResult[];
  readonly compared: readonly CompareResult[];
}

/**
 * Writes the report, with its plots in `images/` next to it.
 *
 * @returns the paths of the files.
 */
export async function writeStudyReport(
  file: string,
  sets: readonly StudySet[],
  results: Results,
  counts: { readonly planned: number; readonly unfinished: number },
): Promise<string[]> {
  const measured = sets.map((set) => ({ set, cells: cellsOf(set, results) }));
  const sections = await Promise.all(measured.map(({ set, cells }) => setSection(set, cells, results)));
  const factors = await factorPlot(measured);
  const plots = [...sections.flatMap((section) => section.plots), factors];
  const text = [
    '# λ when training, or λ when sampling',
    introduction(sets, results, counts),
    '## What it shows',
    summary(measured),
    ...sections.map(({ markdown }) => markdown),
  ].join('\n\n');
  await writeFileAtomic(file, `${text}\n`);
  const images = path.join(path.dirname(file), 'images');
  const files = [file];
  for (const { name, svg } of plots) {
    const png = path.join(images, `${name}.png`);
    await writeFileAtomic(
      png,
      await sharp(await svgToPng(svg))
        .png({ palette: true, colours: 64 })
        .toBuffer(),
    );
    files.push(png);
  }
  return files;
}

function cellsOf({ bases, lambdas }: StudySet, results: Results): Cell[] {
  return lambdas.map((lambda) => {
    const seeds = bases.flatMap((job) => {
      const base = results.get(jobName(job));
      const scaled = results.get(jobName(drawnWithLambda(job, lambda)));
      const trained = results.get(jobName(withLambda(job, lambda)));
      const compared = results.get(jobName(comparedWithBase(job, lambda)));
      if (!isTraining(base) || !isTraining(trained) || !isDraw(scaled) || !isComparison(compared)) return [];
      return [{ base, scaled, trained, compared }];
    });
    return {
      lambda,
      base: seeds.map(({ base }) => base),
      scaled: seeds.map(({ scaled }) => scaled),
      trained: seeds.map(({ trained }) => trained),
      compared: seeds.map(({ compared }) => compared),
    };
  });
}

const isTraining = (result: JobResult | undefined): result is TrainedResult =>
  result !== undefined && 'training' in result;
const isDraw = (result: JobResult | undefined): result is DrawResult => result?.job.kind === 'draw';
const isComparison = (result: JobResult | undefined): result is CompareResult => result?.job.kind === 'compare';

function introduction(
  sets: readonly StudySet[],
  results: Results,
  { planned, unfinished }: { readonly planned: number; readonly unfinished: number },
): string {
  const all = [...results.values()];
  const cpu = all.reduce((sum, { timing }) => sum + timing.cpu_seconds, 0);
  const machines = [
    ...new Set(
      all.map(
        ({ environment: { package_version, node, cpu } }) =>
          `iso-diffusion ${package_version}, Node.js ${node}, ${cpu}`,
      ),
    ),
  ];
  const settings = sets.flatMap(({ bases: [base] }) => (base ? [settingsText(base)] : []));
  return [
    'The minimiser of the Iso-Diffusion loss is the DDPM predictor times one number s ([theory.md](theory.md)). So a model that was trained without the penalty, with its predicted noise times s when it draws, should draw as a model that was trained with it. Here both are measured, seed by seed: the same data, initial weights, training noise and sampling noise.',
    `**Equivalence.** Two one-sided t tests at 5 %: a mean difference is *equivalent* to 0 where its 90 % interval lies within ±${MARGINS.precision} for Precision and Recall, and within ±${MARGINS.density} for Density and Coverage. It is *different* where the interval lies outside. Else it is *not shown*: these runs are too few to say. The margins were chosen before the runs. Intervals in brackets are of 95 % (Student's t over the seeds).`,
    `**Settings.** ${[...new Set(settings)].join(' ')}`,
    `Written by \`npx tsx scripts/iso-at-sampling/main.ts\`. ${counted(all.length, 'run')}, ${duration(cpu)} of processor time.${unfinished > 0 ? ` **${unfinished} of ${planned} runs are not finished: this report is partial.**` : ''} ${machines.join('; ')}.`,
  ].join('\n\n');
}

function settingsText(job: TrainedResult['job']): string {
  const { epochs, batch_size, learning_rate, num_inference_steps, nearest_k } = job;
  const common = `${counted(epochs, 'epoch')} in batches of ${batch_size}, learning rate ${learning_rate}, ${num_inference_steps} steps of DDPM to draw, k = ${nearest_k}`;
  return job.kind === 'points'
    ? `Points: ${job.points} real ones and as many generated, the dense network with ${job.hidden_features} features, ${common}.`
    : `Digits (${job.resolution}x${job.resolution} pixels): a small U-Net with averaged weights, ${job.samples ?? 'as many'} generated, raw pixels as features, ${common}.`;
}

/** Counts the verdicts, and says how near one number the ratio of the outputs is. */
function summary(measured: readonly { readonly set: StudySet; readonly cells: readonly Cell[] }[]): string {
  const rows = measured.map(({ set, cells }) => {
    const verdicts = cells.flatMap((cell) => METRICS.map((metric) => differenceOf(cell, metric).verdict));
    const count = (kind: Equivalence) => verdicts.filter((verdict) => verdict === kind).length;
    const late = cells.flatMap((cell) => {
      const rows = ratiosOf(cell).filter(({ timestep }) => timestep >= LATE_TIMESTEP);
      return rows.map(({ correlation }) => correlation);
    });
    const worst = late.length === 0 ? '–' : Math.min(...late).toFixed(5);
    return [
      set.title,
      ...(['equivalent', 'different', 'not shown'] as const).map((kind) => String(count(kind))),
      worst,
    ];
  });
  return [
    'Differences between training with λ and sampling with λ, by set (Precision, Recall, Density and Coverage for each λ), and the least correlation of the predicted noise of both models at the timesteps from 150 on:',
    markdownTable(['Set', 'Equivalent', 'Different', 'Not shown', 'Least correlation'], rows),
  ].join('\n\n');
}

async function setSection(set: StudySet, cells: readonly Cell[], results: Results) {
  const finished = cells.filter(({ base }) => base.length > 0);
  if (finished.length === 0) return { markdown: `## ${set.title}\n\nNo run is finished.`, plots: [] };
  const ratios = await ratioSection(set, finished);
  const scales = await scaleSection(set, results);
  return {
    markdown: [
      `## ${set.title}`,
      factorTable(finished),
      valueTable(set, finished),
      'Training less sampling, with its 95 % interval:',
      markdownTable(
        ['λ', ...METRICS.map((metric) => METRIC_TITLES[metric])],
        finished.map((cell) => [String(cell.lambda), ...METRICS.map((metric) => differenceOf(cell, metric).text)]),
      ),
      ratios.markdown,
      ...(scales ? [scales.markdown] : []),
    ].join('\n\n'),
    plots: [...ratios.plots, ...(scales?.plots ?? [])],
  };
}

/** The formula's factor beside the measured one. */
function factorTable(cells: readonly Cell[]): string {
  const isotropies = (cells[0]?.scaled ?? []).map(({ isotropy }) => isotropy ?? Number.NaN);
  return [
    `Isotropy of the model without the penalty, m: ${spreadTextOf(isotropies)} (mean and 95 % interval over ${counted(isotropies.length, 'seed')}).`,
    markdownTable(
      ['λ', 's by the formula', 's measured, √(S_λ / S_0)'],
      cells.map(({ lambda, scaled, compared }) => [
        String(lambda),
        spreadTextOf(scaled.map(({ noise_scale }) => noise_scale)),
        spreadTextOf(
          compared.map(({ isotropy: { model, base } }) => Math.sqrt((model ?? Number.NaN) / (base ?? Number.NaN))),
        ),
      ]),
    ),
  ].join('\n\n');
}

function valueTable({ name }: StudySet, cells: readonly Cell[]): string {
  const metrics = metricsOf(name);
  const line = (label: string, runs: readonly (TrainedResult | DrawResult)[]) => [
    label,
    ...metrics.map((metric) => spreadTextOf(valuesOf(runs, metric))),
  ];
  const [first] = cells;
  return markdownTable(
    ['', ...metrics.map((metric) => METRIC_TITLES[metric])],
    [
      line('λ = 0', first?.base ?? []),
      ...cells.flatMap(({ lambda, scaled, trained }) => [
        line(`λ = ${lambda} when sampling`, scaled),
        line(`λ = ${lambda} when training`, trained),
      ]),
    ],
  );
}

function differenceOf({ trained, scaled }: Cell, metric: Metric): { text: string; verdict: Equivalence } {
  const before = valuesOf(scaled, metric);
  const differences = valuesOf(trained, metric).map((value, i) => value - (before[i] ?? Number.NaN));
  const verdict = equivalenceOf(differences, MARGINS[metric]);
  const spread = spreadOf(differences);
  const text = [signed(spread?.mean ?? Number.NaN), intervalText(spread)].filter(Boolean).join(' ');
  return { text: `${text}: ${verdict}`, verdict };
}

interface MeanRatio {
  readonly timestep: number;
  readonly ratio: number;
  readonly correlation: number;
}

/** Means over the seeds. */
function ratiosOf({ compared }: Cell): MeanRatio[] {
  const [first] = compared;
  return (first?.ratios ?? []).map(({ timestep }, i) => {
    const rows = compared.flatMap(({ ratios }) => ratios[i] ?? []);
    return {
      timestep,
      ratio: mean(rows.map(({ ratio }) => ratio)),
      correlation: mean(rows.map((row) => row.correlation)),
    };
  });
}

async function ratioSection({ name, title }: StudySet, cells: readonly Cell[]) {
  const rows = cells.map((cell) => ({ cell, ratios: ratiosOf(cell) }));
  const shown = (rows[0]?.ratios ?? []).map(({ timestep }) => timestep).filter((_, i) => i % 2 === 0);
  const at = (ratios: readonly MeanRatio[], timestep: number) => ratios.find((row) => row.timestep === timestep);
  const plot: Plot = {
    name: `iso-ratio-${name}`,
    caption: `${title}: the noise that a model trained with λ predicts, as a multiple of that of the model without, by timestep`,
    svg: await curvePlot({
      title: `${title}: ratio of the predicted noise`,
      x_label: 't',
      y_label: 'ratio to λ = 0',
      series: rows.map(({ cell, ratios }) => ({
        name: `λ = ${cell.lambda}`,
        x: ratios.map(({ timestep }) => timestep),
        y: ratios.map(({ ratio }) => ratio),
      })),
    }),
  };
  const ranges = rows.map(({ cell, ratios }) => {
    const late = ratios.filter(({ timestep }) => timestep >= LATE_TIMESTEP).map(({ ratio }) => ratio);
    return `${Math.min(...late).toFixed(4)} to ${Math.max(...late).toFixed(4)} for λ = ${cell.lambda} (formula: ${mean(cell.scaled.map(({ noise_scale }) => noise_scale)).toFixed(4)})`;
  });
  return {
    markdown: [
      'The predicted noise of the model trained with λ as a multiple of that of the model without, and the correlation of both, by timestep (means over the seeds):',
      markdownTable(
        ['λ', ...shown.map((timestep) => `t = ${timestep}`)],
        rows.flatMap(({ cell, ratios }) => [
          [`${cell.lambda}`, ...shown.map((timestep) => at(ratios, timestep)?.ratio.toFixed(4) ?? '–')],
          ['correlation', ...shown.map((timestep) => at(ratios, timestep)?.correlation.toFixed(5) ?? '–')],
        ]),
      ),
      `From t = ${LATE_TIMESTEP} on the ratio is ${ranges.join('; ')}.`,
      `![${plot.caption}](images/${plot.name}.png)`,
    ].join('\n\n'),
    plots: [plot],
  };
}

/** Metrics against the factor of the predicted noise, from Epsilon Scaling's side of 1 to the penalty's. */
async function scaleSection({ name, title, bases, scales }: StudySet, results: Results) {
  if (scales.length === 0) return undefined;
  const drawn = scales.map((scale) => ({
    scale,
    runs: bases.map((base) => results.get(jobName(drawnWithScale(base, scale)))).filter(isDraw),
  }));
  const plain = bases.map((base) => results.get(jobName(base))).filter(isTraining);
  const rows = [...drawn, { scale: 1, runs: plain }]
    .filter(({ runs }) => runs.length > 0)
    .sort((a, b) => a.scale - b.scale);
  if (rows.length < 2) return undefined;
  const series = (metric: StudyMetric) => ({
    name: METRIC_TITLES[metric],
    x: rows.map(({ scale }) => scale),
    y: rows.map(({ runs }) => mean(valuesOf(runs, metric))),
  });
  const label = 'factor s of the predicted noise';
  const caption = `${title}: Precision, Recall, Density and Coverage against the factor of the predicted noise`;
  const plots: Plot[] = [
    {
      name: `noise-scale-${name}`,
      caption,
      svg: await curvePlot({
        title: `${title}: metrics by factor`,
        x_label: label,
        y_label: 'metric',
        series: METRICS.map(series),
      }),
    },
  ];
  const metrics = metricsOf(name);
  if (name === 'digits')
    plots.push({
      name: `noise-scale-${name}-fid`,
      caption: `${title}: FID against the factor of the predicted noise`,
      svg: await curvePlot({
        title: `${title}: FID by factor`,
        x_label: label,
        y_label: 'FID of raw pixels',
        series: [series('fid')],
      }),
    });
  return {
    markdown: [
      'The model without the penalty, drawn with other factors (means over the seeds with 95 % intervals):',
      markdownTable(
        ['s', ...metrics.map((metric) => METRIC_TITLES[metric])],
        rows.map(({ scale, runs }) => [
          String(scale),
          ...metrics.map((metric) => spreadTextOf(valuesOf(runs, metric))),
        ]),
      ),
      ...plots.map((plot) => `![${plot.caption}](images/${plot.name}.png)`),
    ].join('\n\n'),
    plots,
  };
}

/** s against λ for the isotropies that were measured. */
async function factorPlot(
  measured: readonly { readonly set: StudySet; readonly cells: readonly Cell[] }[],
): Promise<Plot> {
  const lambdas = Array.from({ length: 101 }, (_, i) => i / 100);
  const series = measured.flatMap(({ set, cells }) => {
    const known = (cells[0]?.scaled ?? []).flatMap(({ isotropy }) => isotropy ?? []);
    if (known.length === 0) return [];
    const m = mean(known);
    return [{ name: `${set.title}, m = ${m.toFixed(3)}`, x: lambdas, y: lambdas.map((l) => minimiserScale(l, m)) }];
  });
  const photos = { name: 'm = 0.98', x: lambdas, y: lambdas.map((l) => minimiserScale(l, 0.98)) };
  return {
    name: 'minimiser-scale',
    caption: 'The factor s against λ for the isotropies of trained models',
    svg: await curvePlot({
      title: 'What λ does to the predicted noise',
      x_label: 'λ',
      y_label: 's',
      series: [...series, photos],
    }),
  };
}

function valuesOf(runs: readonly (TrainedResult | DrawResult)[], metric: StudyMetric): number[] {
  return runs.map(({ metrics }) =>
    Number(Object.entries(metrics).find(([name]) => name === metric)?.[1] ?? Number.NaN),
  );
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function spreadTextOf(values: readonly number[]): string {
  return spreadText(spreadOf(values));
}
