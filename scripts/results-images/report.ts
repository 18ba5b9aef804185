import path from 'node:path';
import sharp from 'sharp';
import type { ImageSet } from '../../src/datasets/index.ts';
import { counted, markdownTable } from '../../src/experiments/text.ts';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { type JsonValue, stringifySorted } from '../../src/files/json.ts';
import { curvePlot, type GridImages, imagePanels, svgToPng } from '../../src/plots/index.ts';
import { duration } from '../../src/terminal/progress.ts';
import {
  changesOf,
  changeText,
  METRIC_TITLES,
  METRICS,
  type SetChange,
  summaryLines,
  valueText,
  verdictOf,
} from './changes.ts';
import type { Copies } from './copies.ts';
import type { CellMeasures } from './measure.ts';
import { type CellRecord, LAMBDAS, type StudySet } from './study.ts';

/** Of each weight in the pictures. */
const SHOWN = 48;
const COLUMNS = 6;
/** Of an image in the pictures, in pixels. */
const SHOWN_SIDE = 40;

/** A finished cell. */
export interface FinishedCell {
  readonly record: CellRecord;
  /** Undefined for one that is trained and not measured yet. */
  readonly measures: CellMeasures | undefined;
  /** Of the first seed alone. */
  readonly copies: Copies | undefined;
  readonly samples: ImageSet;
}

/** What was found of one set. */
export interface SetResults {
  readonly set: StudySet;
  readonly images: ImageSet;
  /** Those of a weight side by side, by seed. */
  readonly cells: readonly FinishedCell[];
}

/** What the report says of the run as a whole. */
export interface StudyFacts {
  readonly seconds: number;
  readonly unfinished: number;
}

/**
 * Writes the report, the same as JSON beside it, and its pictures into `images/`.
 *
 * @param file the path of the Markdown file.
 * @returns the paths of the files.
 */
export async function writeReport(file: string, results: readonly SetResults[], facts: StudyFacts): Promise<string[]> {
  const pictures = (await Promise.all(results.map(picturesOf))).flat();
  const folder = path.join(path.dirname(file), 'images');
  const files = [file, file.replace(/\.md$/, '.json')];
  await writeFileAtomic(file, markdown(results, facts));
  await writeFileAtomic(file.replace(/\.md$/, '.json'), stringifySorted(jsonOf(results)));
  for (const { name, png } of pictures) {
    const target = path.join(folder, name);
    await writeFileAtomic(target, await sharp(png).png({ palette: true, colours: 128 }).toBuffer());
    files.push(target);
  }
  return files;
}

function markdown(results: readonly SetResults[], { seconds, unfinished }: StudyFacts): string {
  const cells = results.flatMap(({ cells }) => cells);
  const changes = results.map((result) => changesOf(result.cells));
  const tests = changes.flat().filter(({ interval }) => interval !== undefined).length;
  return `${[
    '# DDPM and Iso-Diffusion on images',
    'The same U-Net, trained on real images with and without the isotropy penalty. Models of one seed have the same initial weights, images and noise, and draw from the same noise. Only λ differs.',
    '## What it shows',
    results.flatMap(({ set, cells }, i) => summaryLines(set.title, cells, changes[i] ?? [])).join('\n'),
    `A change is that against λ = 0 of the same seed, as a mean over the seeds with its 95 % interval (Student's t). It is called unclear where the interval has 0 in it. ${tests} changes have an interval. If λ did nothing, ${Math.round(tests / 20) || 'none or one'} of them would look clear by chance. The paper publishes higher Precision and Density with λ, and lower Recall ([introduction.md](introduction.md)).`,
    '## What it does not show',
    [
      `- **Small effects.** With few seeds (${seedsOf(cells).length} at most) the intervals are wide. _Unclear_ does not mean _equal_.`,
      '- **Other sizes.** It is one small network, trained briefly, on small images. Large models on large images may behave in another way.',
      '- **Figures of papers.** The features are not those of the FID. FID and KID have the units of these features, and compare within one table only.',
      '- **New images.** Drawn images are measured against those of the training, as in the paper. A model that copies them would score well, so copies are counted.',
      '- **Other samplers.** All images were drawn by DDIM. The paper draws by 1,000 steps of DDPM.',
    ].join('\n'),
    '## How it was made',
    howText(results),
    timeText(cells, seconds, unfinished),
    ...results.map((result, i) => setSection(result, changes[i] ?? [])),
  ].join('\n\n')}\n`;
}

const seedsOf = (cells: readonly FinishedCell[]) => [...new Set(cells.map(({ record }) => record.cell.seed))];

function howText(results: readonly SetResults[]): string {
  const [first] = results[0]?.cells ?? [];
  if (!first) return '';
  const { settings, parameters } = first.record;
  const sets = results.map(
    ({ set, images, cells }) =>
      `**${set.title}**: ${images.count.toLocaleString('en')} images of ${images.height}x${images.width}x${images.channels}, \`loadImages('${set.name}')\`; features by ${cells[0]?.measures?.extractor.name ?? `${set.extractor}, not taken yet`}.`,
  );
  return [
    ...sets,
    `Each model took ${settings.steps.toLocaleString('en')} steps in batches of ${settings.batch_size}: AdamW, a learning rate of ${settings.learning_rate} that falls as a cosine, averaged weights, and a U-Net of ${(parameters / 1e6).toFixed(1)} million parameters. Then it drew ${first.record.samples.count.toLocaleString('en')} images by ${settings.num_inference_steps} steps of DDIM. Precision, Recall, Density and Coverage have k = 5.`,
  ].join(' ');
}

/** The only part that differs between two runs of the study on the cpu. */
function timeText(cells: readonly FinishedCell[], seconds: number, unfinished: number): string {
  const machines = [
    ...new Set(
      cells.map(
        ({ record: { environment: e } }) => `${e.device}${e.card ? ` (${e.card})` : ''}, ${e.cpu}, Node.js ${e.node}`,
      ),
    ),
  ];
  const partial = unfinished > 0 ? ` **${counted(unfinished, 'model')} of the study are not there yet.**` : '';
  return `\`npm run results-images\` makes this file. It goes on after a stop, and \`--device cuda\` takes a GPU. ${counted(cells.length, 'model')} were trained and drawn from in ${duration(seconds)}, summed over the models, on ${machines.join('; ')}.${partial}`;
}

function setSection({ set, cells }: SetResults, changes: readonly SetChange[]): string {
  const rows = LAMBDAS.map((lambda) => cells.filter(({ record }) => record.cell.lambda === lambda)).filter(
    (row) => row.length > 0,
  );
  const lambdaOf = (row: readonly FinishedCell[]) => String(row[0]?.record.cell.lambda);
  const copyRows = cells.flatMap(({ record, copies }) => {
    if (!copies) return [];
    const share = (100 * copies.memorised) / record.samples.count;
    return [[String(record.cell.lambda), String(copies.copied), `${share.toFixed(1)} %`]];
  });
  return [
    `## ${set.title}`,
    `![${set.title}: real images, and those of each λ from the same noise, seed 0](images/${pictureName(set, 'samples')})`,
    'Means over the seeds ± the half width of the 95 % interval. Isotropy is the mean squared predicted noise per element, on noise that the training has not seen ([theory.md](theory.md)).',
    markdownTable(
      ['λ', ...METRICS.map((metric) => METRIC_TITLES[metric])],
      rows.map((row) => [lambdaOf(row), ...METRICS.map((metric) => valueText(cells, row, metric))]),
    ),
    'Changes against λ = 0, paired by seed, with the 95 % interval:',
    markdownTable(
      ['λ', 'metric', 'change', 'verdict'],
      changes.map((change) => [
        String(change.lambda),
        METRIC_TITLES[change.metric],
        changeText(cells, change),
        verdictOf(change),
      ]),
    ),
    'Drawn images of seed 0 that equal a training image pixel by pixel, and those as close to one as 1 % of new images are:',
    markdownTable(['λ', 'copied', 'as close'], copyRows),
    `![${set.title}: mean squared error while training](images/${pictureName(set, 'loss')})`,
    `![${set.title}: isotropy of the predicted noise while training](images/${pictureName(set, 'isotropy')})`,
  ].join('\n\n');
}

function jsonOf(results: readonly SetResults[]): JsonValue {
  return {
    lambdas: LAMBDAS,
    settings: results[0]?.cells[0]?.record.settings ?? null,
    sets: results.map(({ set, images, cells }) => ({
      name: set.name,
      images: images.count,
      shape: [images.height, images.width, images.channels],
      fingerprint: images.fingerprint,
      extractor: cells[0]?.measures?.extractor ?? null,
      parameters: cells[0]?.record.parameters ?? null,
      cells: cells.map(({ record, measures, copies }) => ({
        lambda: record.cell.lambda,
        seed: record.cell.seed,
        samples: record.samples.count,
        isotropy: record.isotropy,
        ...measures?.metrics,
        ...copies,
        environment: record.environment,
        curve: record.curve,
      })),
      changes: changesOf(cells).map((change) => ({
        lambda: change.lambda,
        metric: change.metric,
        pairs: change.differences.length,
        differences: [...change.differences],
        mean: change.spread.mean,
        low: change.interval?.[0] ?? null,
        high: change.interval?.[1] ?? null,
        verdict: verdictOf(change),
      })),
    })),
  };
}

const pictureName = (set: StudySet, kind: string) => `results-${set.name}-${kind}.png`;

/** The grids of the first seed, and the curves as means over the seeds. */
async function picturesOf({ set, images, cells }: SetResults): Promise<{ name: string; png: Uint8Array }[]> {
  const first = cells.filter(({ record }) => record.cell.seed === 0);
  const samples = await imagePanels(
    [
      { title: 'real', images: spread(images) },
      ...first.map(({ record, samples }) => ({ title: `λ = ${record.cell.lambda}`, images: head(samples) })),
    ],
    { columns: COLUMNS, scale: Math.max(1, Math.round(SHOWN_SIDE / images.width)) },
  );
  const curve = async (kind: string, name: string, y_label: string, log_y: boolean) => ({
    name: pictureName(set, kind),
    png: await svgToPng(
      await curvePlot({
        title: `${set.title}: ${y_label}`,
        x_label: 'step',
        y_label,
        log_y,
        series: LAMBDAS.flatMap((lambda) => {
          const curves = cells.filter(({ record }) => record.cell.lambda === lambda).map(({ record }) => record.curve);
          const [{ step = [] } = {}] = curves;
          const y = step.map(
            (_, i) => curves.reduce((sum, one) => sum + (one[name]?.[i] ?? Number.NaN), 0) / curves.length,
          );
          return curves.length === 0 ? [] : [{ name: `λ = ${lambda}`, x: step, y }];
        }),
      }),
    ),
  });
  return [
    { name: pictureName(set, 'samples'), png: samples },
    await curve('loss', 'base_loss', 'mean squared error', true),
    await curve('isotropy', 'isotropy', 'isotropy', false),
  ];
}

/** As many images as are shown, from the whole of the set. */
function spread(images: ImageSet): GridImages {
  return gridOf(images, (i, count) => Math.floor((i * images.count) / count));
}

function head(images: ImageSet): GridImages {
  return gridOf(images, (i) => i);
}

function gridOf(images: ImageSet, indexOf: (i: number, count: number) => number): GridImages {
  const { height, width, channels } = images;
  const count = Math.min(SHOWN, images.count);
  const data = Buffer.concat(
    Array.from({ length: count }, (_, i) => Uint8Array.from(images.pixels(indexOf(i, count)))),
  );
  return { data, count, height, width, channels };
}
