import { existsSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { MarkdownRenderer } from 'vitepress';
import { SECTIONS, sitePath } from './navigation.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const SOURCES = 'https://github.com/iso-diffusion/iso-diffusion';

const pages = new Map(SECTIONS.flatMap((section) => section.pages).map(({ file }) => [file, `/${sitePath(file)}`]));

/** Links of guides are relative to their files, for GitHub and npm. This makes them links to pages, or to files on GitHub. */
export function repositoryLinks(md: MarkdownRenderer): void {
  md.core.ruler.push('repository_links', ({ tokens, env }) => {
    const source: unknown = env.realPath ?? env.path;
    if (typeof source !== 'string' || source.startsWith(path.join(root, 'website'))) return;
    for (const token of tokens.flatMap(({ children }) => children ?? [])) {
      const target = token.type === 'link_open' ? token.attrGet('href') : null;
      if (target === null || /^([a-z]+:|#|\/)/.test(target)) continue;
      token.attrSet('href', siteLink(source, target));
    }
  });
}

function siteLink(source: string, target: string): string {
  const [name = '', ...anchor] = target.split(/(?=#)/);
  const file = path.relative(root, path.resolve(path.dirname(source), name));
  const page = pages.get(file);
  if (page !== undefined) return [page, ...anchor].join('');
  // The first page of the site takes the place of README, but has other headings.
  if (file === 'README.md' && anchor.length === 0) return '/';
  const onDisk = path.join(root, file);
  if (file.startsWith('..') || !existsSync(onDisk)) {
    throw new Error(`${path.relative(root, source)} links to ${target}, and there is no such file`);
  }
  return `${SOURCES}/${statSync(onDisk).isDirectory() ? 'tree' : 'blob'}/main/${[file, ...anchor].join('')}`;
}

/** The anchor of a heading as GitHub makes it, so that one link leads to it there and on the site. */
export function githubAnchor(heading: string): string {
  return heading
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{M}\p{N}\p{Pc}\- ]/gu, '')
    .replaceAll(' ', '-');
}
