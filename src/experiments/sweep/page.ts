// The sweep as one HTML file that opens from a disk.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { loadPoints } from '../../datasets/index.ts';
import { readNpyRows } from '../../files/npy.ts';
import { html, htmlPage, Markup } from '../../pages/page.ts';
import { type PlaneValue, planePlot } from '../../plots/plane.ts';
import { PAGE_LOOK } from '../../plots/render.ts';
import { curveFigure, meanCurve, SAMPLES_PIXELS, samplesFigure, scatterPng } from '../figures.ts';
import { GENERATED_FILE, GRID_FILE, isTrained, jobName, setName } from '../jobs/job.ts';
import { changeText } from '../statistics/change.ts';
import { intervalOf, type Spread, spreadText } from '../statistics/spread.ts';
import { METRIC_TITLES } from '../text.ts';
import { sweepAdvice, weightText } from './advice.ts';
import type { SweepCell, SweepMetric } from './cells.ts';
import { drawnWithLambda, withLambda } from './jobs.ts';
import { type SweepOutcome, settingsText, warningsOf } from './outcome.ts';

/** Title, advice, planes of the metrics, samples beside each other, curves and the table of changes. */
export async function sweepPage(outcome: SweepOutcome): Promise<string> {
  const { first, cells, planned, unfinished, seeds } = outcome;
  const body = html`
<div class="cards">
<div class="card"><span>Weights</span><b>${[...new Set(cells.map(({ lambda }) => lambda))].join(', ')}</b></div>
<div class="card"><span>Seeds</span><b>${seeds}</b></div>
<div class="card"><span>Runs</span><b>${planned - unfinished} of ${planned}</b></div>
</div>
<h2>What it shows</h2>
<p>${sweepAdvice(cells)}</p>
<p class="note">Changes are against λ = 0, over pairs of runs with the same seed, with the 95 % interval of Student's t. Of 20 changes that are none, one looks clear by chance.</p>
${warningsOf(outcome).map((warning) => html`<p class="note">Warning: ${warning}.</p>`)}
<h2>Fidelity and diversity</h2>
<div class="plots">${await Promise.all([
    planeFigure(cells, 'recall', 'precision'),
    planeFigure(cells, 'coverage', 'density'),
  ])}</div>
<h2>Samples from the same noise</h2>
<div class="strip">${await sampleFigures(outcome)}</div>
<h2>Training</h2>
<div class="plots">${await curveFigures(outcome)}</div>
<h2>Values and changes</h2>
<div class="scroll">${valueTable(cells)}</div>
<p class="note">${settingsText(outcome)}</p>`;
  return htmlPage({
    title: `λ on ${setName(first)}`,
    badge: unfinished > 0 ? 'partial' : undefined,
    body,
    style: `.strip img { width: ${SAMPLES_PIXELS}px; }`,
  });
}

/** A line for each place; all start at the model without the penalty, which is labelled once. */
async function planeFigure(cells: readonly SweepCell[], x: SweepMetric, y: SweepMetric): Promise<Markup> {
  const base = cells.filter(({ lambda }) => lambda === 0);
  const others = cells.filter(({ lambda }) => lambda > 0);
  const places = [...new Set(others.map(({ place }) => place))];
  const points = places.flatMap((place, line) =>
    [...base, ...others.filter((cell) => cell.place === place)].flatMap(({ lambda, values }) => {
      const [across, up] = [rangeOf(values[x]?.spread), rangeOf(values[y]?.spread)];
      const label = lambda === 0 && line > 0 ? '' : `${lambda}`;
      return across && up ? [{ label, series: `λ when ${place}`, x: across, y: up }] : [];
    }),
  );
  if (points.length === 0) return html``;
  const [x_label, y_label] = [METRIC_TITLES[x], METRIC_TITLES[y]];
  const plot = { points, title: `${y_label} and ${x_label} by λ`, x_label, y_label };
  return html`<figure>${new Markup(await planePlot(plot, { ...PAGE_LOOK, height: 240 }))}</figure>`;
}

function rangeOf(spread: Spread | undefined): PlaneValue | undefined {
  if (!spread) return undefined;
  const { mean } = spread;
  const [low, high] = intervalOf(spread) ?? [mean, mean];
  return { mean, low, high };
}

/** What every weight draws from the noise of the first seed. */
async function sampleFigures({ first, cells, stored }: SweepOutcome): Promise<Markup[]> {
  const figures = await Promise.all(
    cells.map(async (cell) => {
      const { lambda, place } = cell;
      const job = place === 'training' ? withLambda(first, lambda) : drawnWithLambda(first, lambda);
      const found = stored.get(jobName(job));
      const png = found && (await samplesPng(found.folder, first));
      return png && samplesFigure(png, weightText(cell));
    }),
  );
  return figures.flatMap((figure) => figure ?? []);
}

async function samplesPng(folder: string, first: SweepOutcome['first']): Promise<Uint8Array | undefined> {
  if (first.kind === 'images') return readFile(path.join(folder, GRID_FILE));
  const { data, dims } = await readNpyRows(path.join(folder, GENERATED_FILE));
  if (dims !== 2) return undefined;
  const real = await loadPoints(first.dataset, { n: first.points ?? undefined, seed: first.seed });
  const fake = { data: Float32Array.from(data), count: data.length / dims, dims };
  return scatterPng({ real, fake });
}

/** Every term that the loss reports, as means over the seeds. */
async function curveFigures({ bases, cells, stored }: SweepOutcome): Promise<(Markup | undefined)[]> {
  const trained = cells
    .filter(({ place }) => place === 'training')
    .map(({ lambda }) => ({
      lambda,
      runs: bases.flatMap((base) => {
        const result = stored.get(jobName(withLambda(base, lambda)))?.result;
        return result && isTrained(result) ? [result] : [];
      }),
    }))
    .filter(({ runs }) => runs.length > 0);
  const names = Object.keys(trained[0]?.runs[0]?.training ?? {}).filter((name) => ['loss', 'isotropy'].includes(name));
  return Promise.all(
    names.map((name) => {
      const series = trained.map(({ lambda, runs }) => ({
        name: `λ = ${lambda}`,
        ...meanCurve(
          runs.map(({ training: { step, ...values } }) => ({ step, values })),
          name,
        ),
      }));
      return curveFigure(name, series);
    }),
  );
}

function valueTable(cells: readonly SweepCell[]): Markup {
  const metrics = Object.keys(cells[0]?.values ?? {}) as SweepMetric[];
  return html`<table>
<tr><th></th><th class="number">runs</th>${metrics.map((metric) => html`<th class="number">${METRIC_TITLES[metric]}</th>`)}</tr>
${cells.map(
  (cell) =>
    html`<tr><td>${weightText(cell)}</td><td class="number">${cell.runs}</td>${metrics.map((metric) => {
      const value = cell.values[metric];
      const change = value?.change ? html`<br><span class="note">${changeText(value.change)}</span>` : undefined;
      return html`<td class="number">${spreadText(value?.spread)}${change}</td>`;
    })}</tr>`,
)}
</table>`;
}
