// The comparison as one HTML file that opens from a disk.
import { html, htmlPage, type Markup } from '../../pages/page.ts';
import { curveFigure, meanCurve, SAMPLES_PIXELS, samplesFigure } from '../figures.ts';
import { changeText, metricTitle } from '../statistics/change.ts';
import { spreadText } from '../statistics/spread.ts';
import { type CompareOutcome, howText, untoldText, warningsOf } from './outcome.ts';
import { comparedSettings, comparisonText } from './sides.ts';

/** The summary, metrics, samples from the same noise, curves, and the settings that differ. */
export async function comparePage(outcome: CompareOutcome): Promise<string> {
  const { sides, compared, pictures, settings } = outcome;
  const how = howText(outcome);
  const strip = sides.flatMap((side) => {
    const png = pictures.get(side);
    return png ? [samplesFigure(png, side.name)] : [];
  });
  const curves = await curveFigures(outcome);
  const body = html`
<h2>What it shows</h2>
<p>${comparisonText(compared)}</p>
${how === undefined ? undefined : html`<p class="note">${how}</p>`}
${warningsOf(outcome).map((warning) => html`<p class="note">Warning: ${warning}.</p>`)}
${how === undefined ? undefined : html`<div class="scroll">${valueTable(outcome)}</div>`}
${
  strip.length === 0
    ? undefined
    : html`<h2>Samples from the same noise</h2>
<div class="strip">${strip}</div>
<p class="note">Seed ${settings.seed}, ${settings.num_inference_steps} steps.</p>`
}
<h2>Training</h2>
${curves.length === 0 ? html`<p class="note">None of the runs has a log: pipelines come without.</p>` : html`<div class="plots">${curves}</div>`}
<h2>Settings that differ</h2>
${settingsTable(outcome)}`;
  return htmlPage({
    title: sides.map(({ name }) => name).join(', '),
    subtitle: `${sides.reduce((sum, { runs }) => sum + runs.length, 0)} runs side by side`,
    body,
    style: `.strip img { width: ${SAMPLES_PIXELS}px; }`,
  });
}

/** Every value that a run logged: the loss and the isotropy first. */
async function curveFigures({ sides }: CompareOutcome): Promise<Markup[]> {
  const logged = sides.map(({ name, runs }) => ({ name, runs: runs.flatMap(({ curves }) => curves ?? []) }));
  const names = [...new Set(logged.flatMap(({ runs }) => runs.flatMap(({ values }) => Object.keys(values))))];
  const ordered = ['loss', 'base_loss', 'isotropy'].filter((name) => names.includes(name));
  const figures = ordered.map((value) =>
    curveFigure(
      value,
      logged.map(({ name, runs }) => ({ name, ...meanCurve(runs, value) })),
    ),
  );
  return (await Promise.all(figures)).flatMap((figure) => figure ?? []);
}

function valueTable({ compared }: CompareOutcome): Markup {
  const metrics = [...new Set(compared.flatMap(({ values }) => Object.keys(values)))];
  return html`<table>
<tr><th></th><th class="number">runs</th>${metrics.map((metric) => html`<th class="number">${metricTitle(metric)}</th>`)}</tr>
${compared.map(
  ({ name, runs, values }) =>
    html`<tr><td>${name}</td><td class="number">${runs.length}</td>${metrics.map((metric) => {
      const { spread, change } = values[metric] ?? {};
      const changed = change ? html`<br><span class="note">${changeText(change)}</span>` : undefined;
      return html`<td class="number">${spreadText(spread)}${changed}</td>`;
    })}</tr>`,
)}
</table>`;
}

function settingsTable({ sides }: CompareOutcome): Markup {
  const { differing, untold } = comparedSettings(sides);
  const rows = Object.entries(differing);
  return html`<div class="scroll"><table>
<tr><th></th>${sides.map(({ name }) => html`<th>${name}</th>`)}</tr>
<tr><th>seed</th>${sides.map(({ runs }) => html`<td>${runs.map(({ seed }) => seed ?? '–').join(', ')}</td>`)}</tr>
${rows.map(([name, values]) => html`<tr><th>${name}</th>${values.map((value) => html`<td>${value === undefined ? '–' : String(value)}</td>`)}</tr>`)}
</table></div>
${untold.length === 0 ? undefined : html`<p class="note">${untoldText(untold)}</p>`}`;
}
