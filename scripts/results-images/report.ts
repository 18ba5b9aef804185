import path from 'node:path';
import sharp from 'sharp';
import type { ImageSet } from '../../src/datasets/index.ts';
import { counted, markdownTable } from '../../src/experiments/text.ts';
import { writeFileAtomic } from '../../src/files/atomic.ts';
import { stringifySorted } from '../../src/files/json.ts';
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
import { type ModelResult, mergedResults, resultsJson, type SetResults } from './results.ts';
import { LAMBDAS, SEEDS, setOf } from './study.ts';

/** Of each weight in the pictures. */
const SHOWN = 48;
const COLUMNS = 6;
/** Of an image in the pictures, in pixels. */
const SHOWN_SIDE = 40;

/** What was found of one set, and what its pictures show. */
export interface FoundSet {
  readonly results: SetResults;
  readonly images: ImageSet;
  /** By the models of the first seed, as far as they are there. */
  readonly drawn: readonly { readonly lambda: number; readonly samples: ImageSet }[];
}

/**
 * Writes the report, the same as JSON beside it, and its pictures into `images/`. What the JSON has of other models is kept.
 *
 * @param file the path of the Markdown file.
 * @returns the paths of the files.
 */
export async function writeReport(file: string, found: readonly FoundSet[]): Promise<string[]> {
  const json = jsonOf(file);
  const results = await mergedResults(
    json,
    found.map((set) => set.results),
  );
  const pictures = (await Promise.all(found.map((set) => picturesOf(set, results)))).flat();
  const folder = path.join(path.dirname(file), 'images');
  const files = [file, json];
  await writeFileAtomic(file, reportText(results));
  await writeFileAtomic(json, stringifySorted(resultsJson(results)));
  for (const { name, png } of pictures) {
    const target = path.join(folder, name);
    await writeFileAtomic(target, await sharp(png).png({ palette: true, colours: 128 }).toBuffer());
    files.push(target);
  }
  return files;
}

/** The path of the JSON beside the report. */
export function jsonOf(file: string): string {
  return file.replace(/\.md$/, '.json');
}

/** The Markdown of the report. */
export function reportText(sets: readonly SetResults[]): string {
  const all = sets.flatMap((set) => set.models);
  const changes = sets.map((set) => changesOf(set.models));
  const tests = changes.flat().filter(({ interval }) => interval !== undefined).length;
  const seeds = new Set(all.map(({ seed }) => seed)).size;
  const missing = sets.flatMap((set) => {
    const count = SEEDS * LAMBDAS.length - set.models.length;
    return count > 0 ? ` **${counted(count, 'model')} of ${titleOf(set)} are not there yet.**` : [];
  });
  return `${[
    '# DDPM and Iso-Diffusion on images',
    'The same U-Net, trained on real images with and without the isotropy penalty. Models of one seed have the same initial weights, images and noise, and draw from the same noise. Only λ differs.',
    '## What it shows',
    sets.flatMap((set, i) => summaryLines(titleOf(set), set.models, changes[i] ?? [])).join('\n'),
    `A change is that against λ = 0 of the same seed, as a mean over the seeds with its 95 % interval (Student's t). It is called unclear where the interval has 0 in it. ${tests} changes have an interval. If λ did nothing, ${Math.round(tests / 20) || 'none or one'} of them would look clear by chance. The paper publishes higher Precision and Density with λ, and lower Recall ([introduction.md](introduction.md)).`,
    '## What it does not show',
    [
      `- **Small effects.** With few seeds (${seeds} at most) the intervals are wide. _Unclear_ does not mean _equal_.`,
      '- **Other sizes.** These are small networks, trained briefly, on small images. Large models on large images may behave in another way.',
      '- **Figures of papers.** The features are not those of the FID. FID and KID have the units of these features, and compare within one table only.',
      '- **New images.** Drawn images are measured against those of the training, as in the paper. A model that copies them would score well, so copies are counted.',
      '- **Other samplers.** All images were drawn by DDIM. The paper draws by 1,000 steps of DDPM.',
    ].join('\n'),
    '## How it was made',
    `\`npm run results-images\` makes this file. It goes on after a stop, and \`--device cuda\` takes a GPU.${missing.join('')}`,
    markdownTable(['', ...sets.map(titleOf)], settingRows(sets)),
    'All were trained by AdamW, with averaged weights. Precision, Recall, Density and Coverage have k = 5.',
    ...sets.map((set, i) => setSection(set, changes[i] ?? [])),
  ].join('\n\n')}\n`;
}

const titleOf = ({ name }: SetResults) => setOf(name).title;

function settingRows(sets: readonly SetResults[]): string[][] {
  const row = (title: string, text: (set: SetResults) => string) => [title, ...sets.map(text)];
  return [
    row('images', ({ images, shape }) => `${images.toLocaleString('en')} of ${shape.join('x')}`),
    row('read by', ({ name }) => `\`loadImages('${setOf(name).source}')\``),
    row('U-Net', ({ parameters }) => `${(parameters / 1e6).toFixed(1)} million parameters`),
    row(
      'training',
      ({ settings }) => `${settings.steps.toLocaleString('en')} steps in batches of ${settings.batch_size}`,
    ),
    row(
      'learning rate',
      ({ settings }) => `${settings.learning_rate} after ${settings.warmup_steps} steps, then a cosine`,
    ),
    row(
      'drawn of each',
      ({ settings }) =>
        `${settings.samples.toLocaleString('en')} images by ${settings.num_inference_steps} steps of DDIM`,
    ),
    row('features', ({ extractor }) => extractor?.name ?? 'not taken yet'),
    row('models', ({ models }) => `${models.length}${timeText(models)}`),
    row('machine', ({ models }) => [...new Set(models.map(machineText))].join('; ')),
  ];
}

/** The only part that differs between two runs of the study on the cpu. */
function timeText(models: readonly ModelResult[]): string {
  const seconds = models.flatMap(({ cpu_seconds }) => cpu_seconds ?? []);
  if (seconds.length < models.length) return '';
  return `, in ${duration(seconds.reduce((sum, one) => sum + one, 0))} of processor time`;
}

function machineText({ environment: { device, card, cpu, node } }: ModelResult): string {
  return `${device}${card ? ` (${card})` : ''}, ${cpu}, Node.js ${node}`;
}

function setSection(set: SetResults, changes: readonly SetChange[]): string {
  const { models } = set;
  const { title, remark } = setOf(set.name);
  const copyRows = models.flatMap(({ lambda, samples, copies }) =>
    copies ? [[String(lambda), String(copies.copied), `${((100 * copies.memorised) / samples).toFixed(1)} %`]] : [],
  );
  return [
    `## ${title}`,
    `![${title}: real images, and those of each λ from the same noise, seed 0](images/${pictureName(set, 'samples')})`,
    ...(remark ? [remark] : []),
    'Means over the seeds ± the half width of the 95 % interval. Isotropy is the mean squared predicted noise per element, on noise that the training has not seen ([theory.md](theory.md)).',
    markdownTable(
      ['λ', ...METRICS.map((metric) => METRIC_TITLES[metric])],
      LAMBDAS.map((lambda) => {
        const row = models.filter((model) => model.lambda === lambda);
        return [String(lambda), ...METRICS.map((metric) => valueText(models, row, metric))];
      }),
    ),
    'Changes against λ = 0, paired by seed, with the 95 % interval:',
    markdownTable(
      ['λ', 'metric', 'change', 'verdict'],
      changes.map((change) => [
        String(change.lambda),
        METRIC_TITLES[change.metric],
        changeText(models, change),
        verdictOf(change),
      ]),
    ),
    'Drawn images of seed 0 that equal a training image pixel by pixel, and those as close to one as 1 % of new images are:',
    markdownTable(['λ', 'copied', 'as close'], copyRows),
    `![${title}: mean squared error while training](images/${pictureName(set, 'loss')})`,
    `![${title}: isotropy of the predicted noise while training](images/${pictureName(set, 'isotropy')})`,
  ].join('\n\n');
}

const pictureName = ({ name }: SetResults, kind: string) => `results-${name}-${kind}.png`;

/** The grids of the first seed, and the curves as means over the seeds. @param all with the models that were there before. */
async function picturesOf({ results: { name }, images, drawn }: FoundSet, all: readonly SetResults[]) {
  const results = all.find((set) => set.name === name);
  if (!results) return [];
  const samples = async () => ({
    name: pictureName(results, 'samples'),
    png: await imagePanels(
      [
        { title: 'real', images: spread(images) },
        ...drawn.map(({ lambda, samples }) => ({ title: `λ = ${lambda}`, images: head(samples) })),
      ],
      { columns: COLUMNS, scale: Math.max(1, Math.round(SHOWN_SIDE / images.width)) },
    ),
  });
  const curve = async (kind: string, value: string, y_label: string, log_y: boolean) => ({
    name: pictureName(results, kind),
    png: await svgToPng(
      await curvePlot({
        title: `${titleOf(results)}: ${y_label}`,
        x_label: 'step',
        y_label,
        log_y,
        series: LAMBDAS.flatMap((lambda) => {
          const curves = results.models.filter((model) => model.lambda === lambda).map((model) => model.curve);
          const [{ step = [] } = {}] = curves;
          const y = step.map(
            (_, i) => curves.reduce((sum, one) => sum + (one[value]?.[i] ?? Number.NaN), 0) / curves.length,
          );
          return curves.length === 0 ? [] : [{ name: `λ = ${lambda}`, x: step, y }];
        }),
      }),
    ),
  });
  return Promise.all([
    ...(drawn.length > 0 ? [samples()] : []),
    curve('loss', 'base_loss', 'mean squared error', true),
    curve('isotropy', 'isotropy', 'isotropy', false),
  ]);
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
