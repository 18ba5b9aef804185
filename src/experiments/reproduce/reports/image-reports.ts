import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { RAW_PIXELS_CAVEAT } from '../../../evaluation/extractors/feature-extractor.ts';
import { GRID_FILE, type ImageResult, type Stored } from '../../jobs/job.ts';
import { spreadOf, spreadText } from '../../statistics/spread.ts';
import { counted, METRIC_TITLES, markdownTable } from '../../text.ts';
import { IMAGE_METRICS, type ImageMetric, PAPER_IMAGES } from '../paper/paper-results.ts';
import type { ReportPlot, TargetReport } from '../paper/targets.ts';
import { type EffectOptions, effectOf, effectText, measurementRow, verdictSummary } from './effect.ts';

/** Table 6: the metrics of DDPM and Iso-Diffusion on each set of images. */
export function imageTable(results: readonly ImageResult[], options: EffectOptions): TargetReport {
  const names = [...new Set(results.map(({ job }) => job.name))];
  const sets = names.map((name) => {
    const ofSet = results.filter(({ job }) => job.name === name);
    return setSection(name, ofSet, options);
  });
  return {
    target: 'table-6',
    title: 'Table 6: images',
    markdown: sets.map(({ markdown }) => markdown).join('\n\n') || 'No run of this table is finished.',
    rows: sets.flatMap(({ rows }) => rows),
    plots: [],
  };
}

function setSection(name: string, results: readonly ImageResult[], options: EffectOptions) {
  const iso = results.find(({ job }) => job.lambda > 0)?.job.lambda;
  const variants = [
    { title: 'DDPM', lambda: 0 },
    { title: `Iso, λ = ${iso ?? '?'}`, lambda: iso },
  ].map((variant) => ({ ...variant, runs: results.filter(({ job }) => job.lambda === variant.lambda) }));
  const [ddpm, withPenalty] = variants.map(({ runs }) => runs);
  const lines = IMAGE_METRICS.map((metric) => {
    const paper = PAPER_IMAGES[name]?.[metric];
    return {
      metric,
      paper,
      spreads: variants.map(({ runs }) => spreadOf(valuesOf(runs, metric).map(({ value }) => value))),
      effect: effectOf(valuesOf(ddpm ?? [], metric), valuesOf(withPenalty ?? [], metric), paper, options),
    };
  });
  const rows = lines.flatMap(({ metric, paper, spreads, effect }) =>
    variants.map(({ lambda = null }, i) =>
      measurementRow(
        { dataset: name, lambda, metric },
        { spread: spreads[i], paper: paper?.[i], effect: i === 1 ? effect : undefined },
      ),
    ),
  );
  const headers = [
    'Metric',
    ...variants.map(({ title, runs }) => `${title}, ${counted(runs.length, 'run')}`),
    'Paper, DDPM',
    'Paper, Iso',
    'Change, measured with its 95 % interval (paper)',
  ];
  const effects = lines.map(({ effect }) => effect);
  const markdown = [
    `### ${name}`,
    markdownTable(
      headers,
      lines.map(({ metric, paper, spreads, effect }) => [
        METRIC_TITLES[metric],
        ...spreads.map((spread) => spreadText(spread)),
        paper?.[0].toString() ?? '–',
        paper?.[1].toString() ?? '–',
        effectText(effect),
      ]),
    ),
    extractorLine(results),
    ...(results.some(({ job }) => job.extractor === 'raw-pixels') ? [`Warning: ${RAW_PIXELS_CAVEAT}.`] : []),
    ...(PAPER_IMAGES[name] ? [verdictSummary(name, effects, options)] : ['The paper has no figures for this set.']),
  ].join('\n\n');
  return { markdown, rows };
}

function valuesOf(runs: readonly ImageResult[], metric: ImageMetric) {
  return runs.flatMap(({ job, metrics }) => {
    const value = metrics[metric];
    return value === null ? [] : [{ seed: job.seed, value }];
  });
}

/** Results of different extractors cannot be compared, so a report names them with their checksums. */
function extractorLine(results: readonly ImageResult[]): string {
  const names = (list: readonly ({ name: string; checksum: string } | null)[]) =>
    [...new Set(list.flatMap((one) => (one ? `${one.name} (SHA-256 ${one.checksum.slice(0, 16)}…)` : [])))].join(', ');
  const logits = names(results.map(({ logits_extractor }) => logits_extractor));
  const counts = [
    ...new Set(results.map((result) => `${result.generated_images} generated, ${result.real_images} real`)),
  ];
  return `Features: ${names(results.map(({ extractor }) => extractor))}. ${logits ? `Class logits: ${logits}.` : 'Without class logits (--logits-extractor) there is no Inception Score.'} Images: ${counts.join('; ')}. Results of different extractors cannot be compared; the paper used the FID Inception.`;
}

/** Figure 2: images of both models, for the first seed that has runs. */
export async function imageFigure(stored: readonly Stored<ImageResult>[]): Promise<TargetReport> {
  const seed = Math.min(...stored.map(({ result }) => result.job.seed));
  const shown = stored.filter(({ result }) => result.job.seed === seed);
  const plots = await Promise.all(
    shown.map(async ({ result: { job }, folder }): Promise<ReportPlot> => {
      const model = job.lambda === 0 ? 'DDPM' : `Iso-Diffusion, λ = ${job.lambda}`;
      return {
        name: `figure-2-${job.name}-${job.lambda === 0 ? 'ddpm' : 'iso'}`,
        caption: `${job.name}: ${model}`,
        image: await readFile(path.join(folder, GRID_FILE)),
      };
    }),
  );
  return {
    target: 'figure-2',
    title: 'Figure 2: generated images',
    markdown:
      plots.length === 0
        ? 'No run of this figure is finished.'
        : `Seed ${seed}, not selected: ${plots.map(({ caption }) => caption).join('; ')}.`,
    rows: shown.map(({ result: { job } }) => ({ dataset: job.name, lambda: job.lambda, seed: job.seed })),
    plots,
  };
}
