// One HTML file that needs nothing else: it opens from a disk, and asks no other host for anything.

/** Markup that is inserted as it is: what `html` makes, or an SVG of this package. */
export class Markup {
  constructor(private readonly text: string) {}

  toString(): string {
    return this.text;
  }
}

type Part = Markup | string | number | undefined | readonly Part[];

/**
 * Markup of a template. Values are escaped; markup is inserted as it is, and lists one after another.
 *
 * @example html`<p>${name} &amp; <b>${count}</b></p>`
 */
export function html(texts: TemplateStringsArray, ...values: readonly Part[]): Markup {
  return new Markup(texts.map((text, i) => text + (i < values.length ? inserted(values[i]) : '')).join(''));
}

function inserted(value: Part): string {
  if (value === undefined) return '';
  if (value instanceof Markup) return value.toString();
  if (typeof value === 'object') return value.map(inserted).join('');
  return escapeHtml(String(value));
}

/** Text for HTML, in elements and in quoted attributes. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** A file as the `src` of an image. */
export function dataUri(type: 'image/png' | 'image/webp', bytes: Uint8Array): string {
  return `data:${type};base64,${Buffer.from(bytes).toString('base64')}`;
}

/** What a page shows. */
export interface Page {
  readonly title: string;
  /** Stands behind the title, such as the state of a run. */
  readonly badge?: string | undefined;
  /** The line under the title. */
  readonly subtitle?: string | undefined;
  readonly body: Markup;
  /** Seconds until the page loads itself again, at least 1; default: never. */
  readonly reload_seconds?: number | undefined;
  /** Styles and a script of this page alone; default none. The script runs at the end. */
  readonly style?: string | undefined;
  readonly script?: string | undefined;
}

/** The browser refuses whatever is not in the file itself. */
const POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/**
 * The whole HTML file: head, styles for light and dark, header and body. Plots of `PAGE_LOOK` follow the colours.
 *
 * Classes for the body: `cards` holds `card`s with a `b` and a `span`; `plots` and `strip` hold `figure`s in a grid and in
 * a row that scrolls; `scroll` around a wide table; `note` is small print.
 */
export function htmlPage({ title, badge, subtitle, body, reload_seconds, style = '', script = '' }: Page): string {
  const reload = reload_seconds === undefined ? '' : reloadScript(reload_seconds);
  const scripts = [reload, script].filter(Boolean).map((text) => new Markup(`<script>${text}</script>\n`));
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<link rel="icon" href="data:,">
<style>${new Markup(STYLE + style)}</style>
</head>
<body>
<header>
<h1>${title}${badge === undefined ? undefined : html` <em class="badge">${badge}</em>`}</h1>
${subtitle === undefined ? undefined : html`<p>${subtitle}</p>`}
</header>
<main>
${body}
</main>
${scripts}</body>
</html>
`;
  return page.toString();
}

/** Browsers keep the place on the page when a script loads it again. The page's own script can set `body.dataset.hold`. */
function reloadScript(seconds: number): string {
  return `setInterval(() => document.body.dataset.hold || location.reload(), ${Math.round(seconds * 1000)});`;
}

/** Series of curves have the colours of Okabe & Ito, which people with any kind of colour vision can tell apart. */
const STYLE = `
:root {
  color-scheme: light dark;
  --paper: #f6f7f9; --card: #ffffff; --text: #1d2329; --soft: #5b6672; --line: #e0e4e9; --accent: #0b66a8;
  --series-1: #0072b2; --series-2: #d55e00; --series-3: #009e73; --series-4: #c0589b; --series-5: #b97800;
  --series-6: #2f94cf; --series-7: #1d2329;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12161a; --card: #1b2127; --text: #e7ebef; --soft: #9aa6b2; --line: #313a43; --accent: #6cb8f0;
    --series-1: #56b4e9; --series-2: #f08a3c; --series-3: #35c79b; --series-4: #e59cc8; --series-5: #f0c04a;
    --series-6: #8ccdf2; --series-7: #e7ebef;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
header, main { max-width: 1120px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 26px; }
h1 { margin: 0; font-size: 24px; line-height: 1.3; overflow-wrap: anywhere; }
h2 { margin: 34px 0 10px; font-size: 17px; }
header p { margin: 4px 0 0; color: var(--soft); }
main { padding-bottom: 40px; }
a { color: var(--accent); }
.badge { margin-left: 6px; padding: 3px 10px; border-radius: 99px; background: var(--accent); color: var(--paper);
  font-size: 13px; font-style: normal; font-weight: 600; vertical-align: 3px; white-space: nowrap; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 10px; margin: 18px 0 0; }
.card, figure, table { background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
.card { padding: 10px 14px; }
.card span { display: block; color: var(--soft); font-size: 13px; }
.card b { display: block; font-size: 19px; font-weight: 600; overflow-wrap: anywhere; }
figure { margin: 0; padding: 10px; }
figcaption { color: var(--soft); font-size: 13px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(330px, 1fr)); gap: 12px; }
.plots svg, .plots img { display: block; width: 100%; height: auto; }
.strip { display: flex; gap: 8px; overflow-x: auto; padding-bottom: 8px; }
.strip figure { flex: none; padding: 6px; }
.strip img { display: block; width: 132px; height: auto; border-radius: 4px; }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 12px; text-align: left; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
tr:first-child > * { border-top: 0; }
th { color: var(--soft); font-weight: 500; }
.number { text-align: right; white-space: nowrap; }
.note { color: var(--soft); font-size: 13px; }
@media print { body { background: none; } }
`;
