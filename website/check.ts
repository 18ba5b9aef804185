import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import MiniSearch from 'minisearch';

// What VitePress does not check itself: anchors, pages that no link leads to, and what the search finds.

/** A page as it was built. VitePress writes every attribute in double quotes. */
interface BuiltPage {
  readonly anchors: ReadonlySet<string>;
  readonly links: readonly string[];
}

const attributes = (html: string, name: string): string[] =>
  [...html.matchAll(new RegExp(`\\s${name}="([^"]*)"`, 'g'))].map(([, value = '']) => value.replaceAll('&amp;', '&'));

function readPages(folder: string): Map<string, BuiltPage> {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.html'));
  return new Map(
    files.map((file) => {
      const html = readFileSync(path.join(folder, file), 'utf8');
      const links = [...attributes(html, 'href'), ...attributes(html, 'src')];
      return [file.split(path.sep).join('/'), { anchors: new Set(attributes(html, 'id')), links }];
    }),
  );
}

/**
 * Follows the links of a built site from its first page.
 *
 * @returns what is wrong, a line each: links to files or anchors that do not exist, and pages that no link leads to; and the
 * links to other sites, without the links to sources of the API reference, one for each member.
 */
export function checkLinks(folder: string, base: string): { failures: string[]; pages: number; external: string[] } {
  const pages = readPages(folder);
  const failures = new Set<string>();
  const external = new Set<string>();
  const reached = new Set(['index.html']);
  for (const name of reached) {
    const page = pages.get(name);
    for (const link of page?.links ?? []) {
      if (/^(data|mailto):/.test(link)) continue;
      const url = new URL(link, `site:${base}${name}`);
      if (url.protocol !== 'site:') {
        if (!/\/blob\/main\/src\/.*#L\d+$/.test(link)) external.add(link.replace(/#.*$/, ''));
        continue;
      }
      const target = decodeURIComponent(url.pathname)
        .replace(base, '')
        .replace(/(^|\/)$/, '$1index.html');
      const anchor = decodeURIComponent(url.hash.slice(1));
      const found = pages.get(target);
      if (found) reached.add(target);
      if (!url.pathname.startsWith(base) || (!found && !existsSync(path.join(folder, target))))
        failures.add(`${name} links to ${link}, which does not exist`);
      else if (found && anchor !== '' && !found.anchors.has(anchor))
        failures.add(`${name} links to ${link}, and that page has no such anchor`);
    }
  }
  for (const name of pages.keys()) {
    if (!reached.has(name) && name !== '404.html') failures.add(`no link leads to ${name}`);
  }
  return { failures: [...failures], pages: reached.size, external: [...external].sort() };
}

/** @returns the links to other sites that do not answer, a line each. It needs the network. */
export async function checkExternal(links: readonly string[]): Promise<string[]> {
  const answers = await Promise.all(
    links.map(async (link) => {
      try {
        const { ok, status } = await fetch(link, { signal: AbortSignal.timeout(30_000) });
        return ok ? [] : [`${link} answers with ${status}`];
      } catch (cause) {
        return [`${link} does not answer: ${String(cause)}`];
      }
    }),
  );
  return answers.flat();
}

/**
 * Asks the index of the site's search for the name of every class of errors, with the settings of VitePress's search box.
 *
 * @returns the names for which the page of errors is not among the first three answers, a line each.
 */
export async function checkSearch(folder: string, names: readonly string[]): Promise<string[]> {
  const chunks = path.join(folder, 'assets/chunks');
  const file = readdirSync(chunks).find((name) => name.startsWith('@localSearchIndexroot'));
  if (file === undefined) return ['the site has no search index'];
  const { default: json } = (await import(pathToFileURL(path.join(chunks, file)).href)) as { default: string };
  const index = MiniSearch.loadJSON(json, {
    fields: ['title', 'titles', 'text'],
    storeFields: ['title', 'titles'],
    searchOptions: { fuzzy: 0.2, prefix: true, boost: { title: 4, text: 2, titles: 1 } },
  });
  return names.flatMap((name) => {
    const answers = index
      .search(name)
      .slice(0, 3)
      .map(({ id }) => String(id));
    return answers.some((id) => id.endsWith(`errors.html#${name.toLowerCase()}`))
      ? []
      : [`a search for ${name} does not find its explanation, but ${answers.join(', ') || 'nothing'}`];
  });
}
