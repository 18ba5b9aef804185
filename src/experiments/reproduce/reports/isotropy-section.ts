import { loadPoints } from '../../../datasets/index.ts';
import type { SyntheticName } from '../../../datasets/points/synthetic.ts';
import { isotropyOfNoisedData, type NoisedIsotropy } from '../../../metrics/isotropy.ts';
import { type CurveSeries, curvePlot } from '../../../plots/index.ts';
import { DDPMScheduler } from '../../../schedulers/index.ts';
import type { PointResult, TrainingCurve } from '../../jobs/job.ts';
import { spreadOf, spreadText } from '../../statistics/spread.ts';
import { markdownTable } from '../../text.ts';
import { TABLE_1_LAMBDAS } from '../paper/paper-results.ts';
import { POINT_SETS, type ReportPlot, type ReportRow, type TargetReport } from '../paper/targets.ts';
import { SET_TITLES } from './point-reports.ts';

/** The table shows every n-th analysed timestep. */
const TABLE_STRIDE = 4;
/** The isotropy is averaged over this last fraction of the training. */
const LAST_PART = 0.1;

/** DDPM, or Iso-Diffusion with the λ of Table 1. */
interface Variant {
  readonly name: string;
  readonly lambda: number;
  readonly runs: readonly PointResult[];
}

/** Sections 3.3 and 4: the isotropy of x_t against t, and of the predicted noise during training and by timestep. */
export async function isotropySection(results: readonly PointResult[]): Promise<TargetReport> {
  const runsOf = (dataset: SyntheticName) => results.filter(({ job }) => job.dataset === dataset);
  const sets = await Promise.all(POINT_SETS.map((dataset) => setSection(dataset, runsOf(dataset))));
  return {
    target: 'section-4',
    title: 'Section 4: isotropy of the data and of the predicted noise',
    markdown: [
      'Isotropy is the squared norm divided by the dimension: 1 for white noise. In closed form x_t has',
      'ᾱ_t E‖x_0‖²/n + 1 − ᾱ_t. For the model that minimises the mean squared error (mse), the predicted noise ε̂ has 1 − mse;',
      'the penalty pulls its mean over all timesteps to 1.',
      '',
      sets.map(({ markdown }) => markdown).join('\n\n'),
    ].join('\n'),
    rows: sets.flatMap(({ rows }) => rows),
    plots: sets.flatMap(({ plots }) => plots),
  };
}

async function setSection(dataset: SyntheticName, results: readonly PointResult[]) {
  const [first] = results;
  const heading = `### ${SET_TITLES[dataset]}`;
  if (!first) return { markdown: `${heading}\n\nNo run is finished.`, rows: [], plots: [] };
  const variants = [
    { name: 'DDPM', lambda: 0 },
    { name: `Iso, λ = ${TABLE_1_LAMBDAS[dataset]}`, lambda: TABLE_1_LAMBDAS[dataset] },
  ].map((variant) => ({ ...variant, runs: results.filter(({ job }) => job.lambda === variant.lambda) }));
  const noised = isotropyOfNoisedData({
    points: await loadPoints(dataset, { n: first.job.points ?? undefined, seed: first.job.seed }),
    alphasCumprod: new DDPMScheduler({ num_train_timesteps: first.job.num_train_timesteps }).alphasCumprod,
    seed: first.job.seed,
    timesteps: first.predicted_noise.map(({ timestep }) => timestep),
  });
  const present = variants.filter(({ runs }) => runs.length > 0);
  return {
    markdown: [heading, growthSentence(noised), timestepTable(noised, present), ...trainingLines(present)].join('\n\n'),
    rows: reportRows(dataset, noised, present),
    plots: await plotsOf(dataset, noised, present),
  };
}

function growthSentence(noised: readonly NoisedIsotropy[]): string {
  const values = noised.map(({ expected }) => expected.per_element);
  const grows = values.every((value, i) => i === 0 || value >= (values[i - 1] ?? 0));
  const worst = Math.max(
    ...noised.map(({ expected, sampled, standard_error }) =>
      standard_error > 0 ? Math.abs(sampled.squared_norm - expected.squared_norm) / standard_error : 0,
    ),
  );
  return `x_t: the isotropy ${grows ? 'grows' : 'does not grow'} monotonically with t, from ${values[0]?.toFixed(4)} to ${values.at(-1)?.toFixed(4)}; noised points are at most ${worst.toFixed(1)} standard errors from the closed form.`;
}

function timestepTable(noised: readonly NoisedIsotropy[], variants: readonly Variant[]): string {
  const shown = noised.flatMap((row, index) =>
    index % TABLE_STRIDE === 0 || index === noised.length - 1 ? [{ row, index }] : [],
  );
  return markdownTable(
    ['t', 'x_t, closed form', 'x_t, noised', ...variants.flatMap(({ name }) => [`ε̂, ${name}`, `1 − mse, ${name}`])],
    shown.map(({ row, index }) => [
      String(row.timestep + 1),
      row.expected.per_element.toFixed(4),
      row.sampled.per_element.toFixed(4),
      ...variants.flatMap(({ runs }) => [
        spreadText(predictedAt(runs, index)),
        spreadText(spreadOf(runs.map(({ predicted_noise }) => 1 - (predicted_noise[index]?.mse ?? Number.NaN)))),
      ]),
    ]),
  );
}

function predictedAt(runs: readonly PointResult[], index: number) {
  return spreadOf(runs.map(({ predicted_noise }) => predicted_noise[index]?.per_element ?? Number.NaN));
}

/** The isotropy at the end of the training, next to 1 − mse, its value for the best model under the simple loss. */
function trainingLines(variants: readonly Variant[]): string[] {
  return variants.map(({ name, runs }) => {
    const isotropy = spreadOf(runs.map(({ training }) => meanOfEnd(training.isotropy)));
    const optimum = spreadOf(runs.map(({ training }) => 1 - meanOfEnd(training.base_loss)));
    return `Training, ${name}: over the last ${LAST_PART * 100} % of the steps the isotropy of ε̂ is ${spreadText(isotropy)}, and 1 − mse is ${spreadText(optimum)}.`;
  });
}

function meanOfEnd(values: readonly number[] = []): number {
  const end = values.slice(-Math.max(1, Math.round(values.length * LAST_PART)));
  return spreadOf(end)?.mean ?? Number.NaN;
}

function reportRows(
  dataset: SyntheticName,
  noised: readonly NoisedIsotropy[],
  variants: readonly Variant[],
): ReportRow[] {
  const row = (quantity: string, lambda: number | null, at: 'timestep' | 'step', index: number, value: number) => ({
    dataset,
    quantity,
    lambda,
    timestep: at === 'timestep' ? index : null,
    step: at === 'step' ? index : null,
    value,
  });
  return [
    ...noised.flatMap(({ timestep, expected, sampled }) => [
      row('x_t expected', null, 'timestep', timestep, expected.per_element),
      row('x_t sampled', null, 'timestep', timestep, sampled.per_element),
    ]),
    ...variants.flatMap(({ lambda, runs }) => [
      ...noised.map(({ timestep }, index) =>
        row('predicted noise', lambda, 'timestep', timestep, predictedAt(runs, index)?.mean ?? Number.NaN),
      ),
      ...meanCurve(runs).map(({ step, value }) => row('predicted noise in training', lambda, 'step', step, value)),
    ]),
  ];
}

async function plotsOf(
  dataset: SyntheticName,
  noised: readonly NoisedIsotropy[],
  variants: readonly Variant[],
): Promise<ReportPlot[]> {
  const t = noised.map(({ timestep }) => timestep + 1);
  const byTimestep: CurveSeries[] = [
    { name: 'x_t, closed form', x: t, y: noised.map(({ expected }) => expected.per_element) },
    { name: 'x_t, noised points', x: t, y: noised.map(({ sampled }) => sampled.per_element) },
    ...variants.map(({ name, runs }) => ({
      name: `ε̂, ${name}`,
      x: t,
      y: t.map((_, index) => predictedAt(runs, index)?.mean ?? Number.NaN),
    })),
  ];
  const training = variants.map(({ name, runs }) => {
    const curve = meanCurve(runs);
    return { name, x: curve.map(({ step }) => step), y: curve.map(({ value }) => value) };
  });
  const title = SET_TITLES[dataset];
  const y_label = 'squared norm per element';
  const timestepTitle = `${title}: isotropy by timestep`;
  const trainingTitle = `${title}: isotropy of the predicted noise`;
  return [
    {
      name: `section-4-${dataset}-timesteps`,
      caption: timestepTitle,
      image: await curvePlot({ series: byTimestep, title: timestepTitle, x_label: 't', y_label }),
    },
    {
      name: `section-4-${dataset}-training`,
      caption: `${trainingTitle} in training`,
      image: await curvePlot({ series: training, title: trainingTitle, x_label: 'step', y_label }),
    },
  ];
}

/** The mean over the runs at each logged step; all runs log at the same steps. */
function meanCurve(runs: readonly PointResult[]): { step: number; value: number }[] {
  const curves: TrainingCurve[] = runs.map(({ training }) => training);
  return (curves[0]?.step ?? []).map((step, i) => ({
    step,
    value: spreadOf(curves.map(({ isotropy }) => isotropy?.[i] ?? Number.NaN))?.mean ?? Number.NaN,
  }));
}
