// The page of a training run: curves, samples over time, settings and time left, in one file.
import { type CurveSeries, curveSvg } from '../plots/curves.ts';
import { PAGE_LOOK } from '../plots/render.ts';
import { duration } from '../terminal/progress.ts';
import { html, htmlPage, Markup } from './page.ts';

/** Values by name at steps: `values` has one number, NaN where there is none, for each step. */
export interface Curves {
  readonly step: readonly number[];
  readonly values: Readonly<Record<string, readonly number[]>>;
}

/** Samples of one step as the `src` of an image. */
export interface Frame {
  readonly step: number;
  readonly source: string;
}

/** What the page shows of a run. */
export interface RunPage {
  readonly title: string;
  /** Also stands behind the title. */
  readonly state: 'training' | 'done' | 'interrupted' | 'failed';
  readonly step: number;
  readonly max_steps: number;
  readonly epoch: number;
  readonly steps_per_second: number;
  /** Seconds until the last step, where that is known. */
  readonly seconds_left: number | undefined;
  readonly written_at: Date;
  /** The last logged value of each name. */
  readonly latest: Readonly<Record<string, number>>;
  readonly curves: Curves;
  readonly evaluations: Curves;
  /** What the values of the evaluations must not be taken for, one sentence each. */
  readonly warnings: readonly string[];
  /** The evaluation whose model was kept. */
  readonly best: { readonly metric: string; readonly step: number; readonly value: number } | undefined;
  /** The last samples, as large as they are shown. */
  readonly picture: Frame | undefined;
  /** Samples from the same noise, in the order of their steps. */
  readonly film: readonly Frame[];
  readonly settings: Readonly<Record<string, string | number | boolean>>;
  /** Settings that a resumption changed: what, and from which step on. */
  readonly changes: readonly { readonly step: number; readonly text: string }[];
}

/** Seconds between two loads of the page while the run lasts. */
const RELOAD_SECONDS = 5;

/** The HTML file. While the run lasts it loads itself again every few seconds. */
export async function runPage(run: RunPage): Promise<string> {
  const { title, state, step, max_steps, written_at } = run;
  const isTraining = state === 'training';
  const written = written_at.toISOString();
  return htmlPage({
    title,
    badge: state,
    subtitle: subtitle(run),
    reload_seconds: isTraining ? RELOAD_SECONDS : undefined,
    style: STYLE,
    script: SCRIPT,
    body: html`<progress max="${max_steps}" value="${step}" aria-label="steps"></progress>
<p class="note">Written <time datetime="${written}">${written.slice(0, 19).replace('T', ' ')} UTC</time>${
      isTraining ? html`<span id="stale" hidden>: nothing new for minutes, the run may have ended</span>` : undefined
    }.</p>
${cards(run)}
${film(run)}
<h2>Training</h2>
${await plots(run.curves)}
${
  run.evaluations.step.length > 0
    ? html`<h2>Evaluation</h2>
${await plots(run.evaluations)}
${evaluationTable(run.evaluations)}
${run.warnings.map((warning) => html`<p class="note">Warning: ${warning}.</p>`)}`
    : undefined
}
<h2>Settings</h2>
${changes(run)}
<div class="scroll"><table>${Object.entries(run.settings).map(
      ([name, value]) => html`<tr><th>${name}</th><td>${String(value)}</td></tr>`,
    )}</table></div>`,
  });
}

function subtitle({ state, step, max_steps, seconds_left }: RunPage): string {
  const where = `step ${grouped(step)} of ${grouped(max_steps)}`;
  if (state === 'training') return seconds_left === undefined ? where : `${where}, ${duration(seconds_left)} left`;
  if (state === 'interrupted') return `stopped at ${where}: continue with the same command and --resume`;
  return state === 'failed' ? `ended by an error after ${where}` : where;
}

function cards({ epoch, steps_per_second, seconds_left, latest, best, state }: RunPage): Markup {
  const { loss, isotropy } = latest;
  const shown: [string, string | undefined][] = [
    ['time left', state === 'training' && seconds_left !== undefined ? duration(seconds_left) : undefined],
    ['epoch', epoch.toFixed(1)],
    ['steps a second', steps_per_second > 0 ? short(steps_per_second) : undefined],
    ['loss', loss === undefined ? undefined : short(loss)],
    ['isotropy', isotropy === undefined ? undefined : short(isotropy)],
    [`best ${best?.metric}, step ${best && grouped(best.step)}`, best && short(best.value)],
  ];
  return html`<div class="cards">${shown.map(([name, text]) =>
    text === undefined ? undefined : html`<div class="card"><span>${name}</span><b>${text}</b></div>`,
  )}</div>`;
}

/** The newest samples large, and the strip of all times beside it. The slider shows any of the strip large. */
function film({ picture, film: frames }: RunPage): Markup | undefined {
  if (picture === undefined) return undefined;
  return html`<h2>Samples from the same noise</h2>
<figure class="viewer"><img id="view" src="${picture.source}" alt="samples of step ${picture.step}">
<figcaption id="step">step ${grouped(picture.step)}</figcaption>
${
  frames.length > 1
    ? html`<input id="time" type="range" min="0" max="${frames.length - 1}" value="${frames.length - 1}" aria-label="step of the samples">`
    : undefined
}</figure>
<div class="strip">${frames.map(
    ({ step, source }) =>
      html`<figure><img src="${source}" alt="samples of step ${step}"><figcaption>${grouped(step)}</figcaption></figure>`,
  )}</div>`;
}

/** All losses in one plot, the isotropy in the next, and everything else in a plot of its own. */
async function plots({ step, values }: Curves): Promise<Markup> {
  if (step.length === 0) return html`<p class="note">Nothing is logged yet.</p>`;
  const names = Object.keys(values);
  const losses = names.filter((name) => /(^|_)loss$/.test(name));
  const single = names.filter((name) => !losses.includes(name) && name !== 'isotropy').map((name) => [name]);
  const groups = [losses, names.filter((name) => name === 'isotropy'), ...single].filter(({ length }) => length > 0);
  const svgs = await Promise.all(groups.map((group) => plot(group, step, values)));
  return html`<div class="plots">${svgs.map((svg) => svg && html`<figure>${svg}</figure>`)}</div>`;
}

async function plot(names: readonly string[], steps: readonly number[], values: Curves['values']) {
  const series = names.flatMap((name): CurveSeries[] => {
    // A run that diverges logs NaN at last, which has no place in a plot.
    const pairs = steps.flatMap((x, i) => {
      const y = values[name]?.[i];
      return y !== undefined && Number.isFinite(y) ? [{ x, y }] : [];
    });
    return pairs.length === 0 ? [] : [{ name, x: pairs.map(({ x }) => x), y: pairs.map(({ y }) => y) }];
  });
  if (series.length === 0) return undefined;
  const title = names.length > 1 ? 'loss' : (names[0] ?? '');
  return new Markup(await curveSvg({ series, title, x_label: 'step', y_label: '' }, PAGE_LOOK));
}

/** Rows of the table, the newest first. */
const MOST_ROWS = 20;

function evaluationTable({ step, values }: Curves): Markup {
  const names = Object.keys(values);
  const rows = [...step.keys()].slice(-MOST_ROWS).reverse();
  return html`<div class="scroll"><table><tr><th class="number">step</th>${names.map(
    (name) => html`<th class="number">${name}</th>`,
  )}</tr>${rows.map(
    (i) =>
      html`<tr><td class="number">${grouped(step[i] ?? 0)}</td>${names.map((name) => {
        const value = values[name]?.[i];
        return html`<td class="number">${value === undefined || Number.isNaN(value) ? '' : short(value)}</td>`;
      })}</tr>`,
  )}</table></div>
${step.length > MOST_ROWS ? html`<p class="note">The last ${MOST_ROWS} of ${step.length} evaluations.</p>` : undefined}`;
}

function changes({ changes: all }: RunPage): Markup | undefined {
  if (all.length === 0) return undefined;
  return html`<p class="note">${all.map(({ step, text }) => html`From step ${grouped(step)} on: ${text}. `)}</p>`;
}

/** Four significant digits. */
function short(value: number): string {
  return Math.abs(value) >= 1e4 ? grouped(Math.round(value)) : String(Number(value.toPrecision(4)));
}

/** "12,000" */
function grouped(value: number): string {
  return value.toLocaleString('en-US');
}

const STYLE = `
progress { width: 100%; height: 8px; margin-top: 16px; accent-color: var(--accent); }
.viewer { width: fit-content; max-width: 100%; margin-bottom: 10px; }
.viewer img { display: block; max-width: 100%; height: min(440px, 60vh); border-radius: 4px; object-fit: contain; }
.viewer input { width: 100%; accent-color: var(--accent); }
.viewer figcaption { margin-top: 6px; }
.scroll { margin-top: 12px; }
th { white-space: nowrap; }
`;

/** The slider, the strip's end in sight, and a word where the run writes nothing any more. */
const SCRIPT = `
const strip = document.querySelector('.strip');
const view = document.getElementById('view');
const newest = view && view.src;
if (strip) strip.scrollLeft = strip.scrollWidth;
const time = document.getElementById('time');
const show = (at) => {
  const figures = strip.querySelectorAll('figure');
  view.src = at === figures.length - 1 ? newest : figures[at].querySelector('img').src;
  document.getElementById('step').textContent = 'step ' + figures[at].querySelector('figcaption').textContent;
  if (time) time.value = at;
  // Who looks at an earlier step is not interrupted.
  document.body.dataset.hold = at === figures.length - 1 ? '' : 'yes';
};
if (time) time.addEventListener('input', () => show(Number(time.value)));
if (time) strip.querySelectorAll('figure').forEach((figure, at) => figure.addEventListener('click', () => show(at)));
const stale = document.getElementById('stale');
const written = Date.parse(document.querySelector('time').dateTime);
if (stale) stale.hidden = Date.now() - written < 180000;
`;
